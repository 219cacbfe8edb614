"""`Claim`: a published number with what is needed to measure it again. They stand in ``results/claims.yaml``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from maskris.data.published_counts import published_sizes
from maskris.evaluation.metrics import metrics_of
from maskris.evaluation.protocol import PRESETS
from maskris.experiments.recipe import find
from maskris.models.weights.released import find_released

# The keys of a file and of an entry, with what they hold.
_FILE: dict[str, Any] = {"claims": list}
_FILE_OPTIONAL: dict[str, Any] = {"notes": dict, "always": list}
_ENTRY: dict[str, Any] = {
    **dict.fromkeys(("method", "dataset", "split_by", "metric", "source"), str),
    **dict.fromkeys(("protocol", "recipe"), str | None),
    "values": dict,
}
_ENTRY_OPTIONAL: dict[str, Any] = {"uncertain": list, "expressions": dict, "text": object, "released": str}
_WORDS: dict[Any, str] = {dict: "keys with values", list: "a list", str: "text", str | None: "text or null"}


class ClaimError(ValueError):
    """A claims file that does not hold what it must; the message says where and what."""


@dataclass(frozen=True)
class Claim:
    """One published number.

    Attributes:
        method: As the paper names it.
        dataset: Name of the data set, for example ``"refcoco+"``.
        split_by: Its partition, for example ``"unc"``.
        split: What it was measured on, for example ``"testA"``.
        metric: As in `Evaluation.metrics`: ``"oIoU"``, ``"mIoU"``, ``"Pr@0.5"``, ``"box_accuracy"``.
        value: In per cent, as printed.
        protocol: Name of the protocol under which it was measured; ``None`` if unknown.
        recipe: Name of the shipped recipe (or YAML file) that should reach it; ``None`` if it can't be reproduced here.
        source: Where it stands, for example ``"Table 1"``.
        uncertain: What we don't know about it, in sentences.
        expressions: Of the whole split; the claim is about all of them.
        text: Which sentences were read, where the data set offers both: ``"sent"`` or ``"raw"`` (LAVT).
        released: Name of the released checkpoint that it was measured with; ``None`` if there is none.
    """

    method: str
    dataset: str
    split_by: str
    split: str
    metric: str
    value: float
    protocol: str | None
    recipe: str | None
    source: str
    uncertain: tuple[str, ...] = ()
    expressions: int | None = None
    text: str = "sent"
    released: str | None = None

    @property
    def data(self) -> str:
        """Data set, partition and split, as breakdowns name them."""
        return data_name(self.dataset, self.split_by, self.split)

    @property
    def name(self) -> str:
        """What was measured on what, such as ``refcoco unc val oIoU``."""
        return f"{self.data} {self.metric}"


def data_name(dataset: str, split_by: str, split: str) -> str:
    """For example ``refcoco unc val``; data of one's own may have no partition."""
    return " ".join(part for part in (dataset, split_by, split) if part)


def shipped_claims() -> Path:
    """The file of the paper's claims: in the installed package, or ``results/`` of the repository it is run from."""
    packed = Path(str(files("maskris"))) / "results" / "claims.yaml"  # wheels are installed unpacked
    return packed if packed.is_file() else Path(__file__).resolve().parents[3] / "results" / "claims.yaml"


def load_claims(path: str | Path | None = None) -> list[Claim]:
    """Read a claims file, and refuse what it can't mean.

    Args:
        path: The YAML file; by default the paper's claims.

    Raises:
        FileNotFoundError: If there is no such file.
        ClaimError: If it is no YAML, lacks a key, has an unknown one, names an unknown protocol, metric, note, recipe
            or released checkpoint, or claims two values for one thing.
    """
    path = shipped_claims() if path is None else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no claims file {path}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # which is a SafeLoader
        _check(content, "The file", _FILE, _FILE_OPTIONAL)
        claims: dict[tuple[str, ...], Claim] = {}
        for number, entry in enumerate(content["claims"], 1):
            for claim in _claims(entry, f"Claim {number}", content):
                key = (claim.method, claim.data, claim.metric, claim.recipe or claim.source)
                if key in claims:
                    raise ClaimError(f"Claim {number} gives {claim.metric} on {claim.data} of {claim.method} once more")
                claims[key] = claim
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ClaimError(f"{path} is not YAML: {error}") from error
    except ValueError as error:
        raise ClaimError(f"{path}: {error}") from error
    return list(claims.values())


def _claims(entry: Any, where: str, content: Mapping[str, Any]) -> Iterator[Claim]:
    """The claims of one entry, one for each split."""
    _check(entry, where, _ENTRY, _ENTRY_OPTIONAL)
    notes = content.get("notes") or {}
    names = [*(content.get("always") or []), *(entry.get("uncertain") or [])]
    if unknown := [name for name in names if name not in notes]:
        raise ClaimError(f"{where}: there is no note {', '.join(map(str, unknown))}; notes are {', '.join(notes)}")
    protocol, recipe, released = entry["protocol"], entry["recipe"], entry.get("released")
    if protocol is not None:
        if protocol not in PRESETS:
            raise ClaimError(f"{where}: there is no protocol {protocol!r}; choose one of {', '.join(PRESETS)}")
        if entry["metric"] not in (known := metrics_of(PRESETS[protocol])):
            raise ClaimError(f"{where}: there is no metric {entry['metric']!r}; choose one of {', '.join(known)}")
    if recipe is not None:
        if protocol is None:
            raise ClaimError(f"{where}: with a recipe, name the protocol to measure by")
        try:
            find(recipe)
        except ValueError as error:
            raise ClaimError(f"{where}: {error}") from error
    if released is not None and find_released(released) is None:
        raise ClaimError(f"{where}: there is no released checkpoint {released!r}")
    if (text := entry.get("text", "sent")) not in ("sent", "raw"):
        raise ClaimError(f"{where}: text must be sent or raw, not {text!r}")
    sizes = {name: counts.expressions for name, counts in published_sizes(entry["dataset"], entry["split_by"]).items()}
    sizes |= entry.get("expressions") or {}
    for split, value in entry["values"].items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
            raise ClaimError(f"{where}: {split} must be a number in per cent, not {value!r}")
        size = sizes.get(split)
        if protocol is not None and (recipe or released) and not (isinstance(size, int) and size > 0):
            raise ClaimError(
                f"{where}: the size of {entry['dataset']} {entry['split_by']} {split} is not published; say how many "
                f"expressions the claim is about: expressions: {{{split}: N}}"
            )
        yield Claim(
            **{key: entry[key] for key in _ENTRY if key != "values"},
            split=str(split),
            value=float(value),
            uncertain=tuple(notes[name] for name in names),
            expressions=size,
            text=text,
            released=released,
        )


def _check(value: Any, where: str, required: Mapping[str, Any], optional: Mapping[str, Any]) -> None:
    """Refuse other keys than these, and values of another kind; what is optional may be null."""
    if not isinstance(value, dict):
        raise ClaimError(f"{where} must be {_WORDS[dict]}, not {value!r}")
    known = {**required, **optional}
    if unknown := [str(key) for key in value if key not in known]:
        raise ClaimError(f"{where} has the unknown key {', '.join(unknown)}; known are {', '.join(known)}")
    if missing := [key for key in required if key not in value]:
        raise ClaimError(f"{where} lacks {', '.join(missing)}")
    for key, found in value.items():
        if not isinstance(found, known[key]) and not (found is None and key in optional):
            raise ClaimError(f"{where}: {key} must be {_WORDS[known[key]]}, not {found!r}")


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)
