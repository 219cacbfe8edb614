"""The layout of a run folder, and `RunRecord`: its contents."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import yaml

from maskris.models.folder import BEST, LAST, model_folder
from maskris.utils.files import read_json

RECIPE = "recipe.yaml"  # the resolved recipe
METRICS = "metrics.jsonl"  # the measurements, one JSON object a line
STATE = "state.json"  # in the folder `LAST`: the counters and all that determines the results


@dataclass(frozen=True)
class RunRecord:
    """The files of a run folder; all but the model may be missing.

    Attributes:
        folder: The run folder, or a folder that holds nothing but a model.
        checkpoint: The folder in it whose weights are used: ``"best"``, ``"last"``, or ``"."`` for a model folder.
        recipe: ``recipe.yaml`` as it stands; ``""`` where there is none.
        settings: The same as plain values.
        log: The lines of ``metrics.jsonl``.
        state: ``last/state.json``: step, versions and all that determines the results.
    """

    folder: Path
    checkpoint: str = "."
    recipe: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    log: Sequence[Mapping[str, Any]] = ()
    state: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_folder(self) -> Path:
        """The folder of the model to use."""
        return self.folder / self.checkpoint

    @property
    def protocol(self) -> str | None:
        """The protocol of the run's evaluations."""
        return (self.settings.get("training") or {}).get("protocol")

    @property
    def flat(self) -> dict[str, Any]:
        """The settings by dotted keys, without ``class_path`` and ``init_args`` where they add nothing."""
        return _flat(self.settings)

    @property
    def complete(self) -> bool:
        """Whether all steps are done: neither interrupted nor under way."""
        if (run := self.state.get("run")) is None:
            return False
        total = run["steps"] or run["epochs"] * (run["items"] // run["batch_size"])
        return bool(self.state["step"] >= total)

    @property
    def seconds(self) -> float:
        """Time of the logged steps, over all interruptions and without evaluating and saving."""
        run = self.state["run"]
        expressions = run["batch_size"] * run["referents_per_image"]
        lines = [{"step": 0}, *(line for line in self.log if line["event"] == "train")]
        times = ((b["step"] - a["step"]) * expressions / b["expressions_per_second"] for a, b in pairwise(lines))
        return float(sum(times))

    def curve(self, *keys: str, event: str = "train") -> tuple[list[float], list[float | None]]:
        """Steps and values of one entry of the log, ``None`` where it was not finite; both empty if no line has it.

        Args:
            *keys: Where it stands in a line, such as ``"losses", "clean"``.
            event: ``"train"`` or ``"evaluate"``.
        """
        points: list[tuple[float, float | None]] = []
        for line in self.log:
            value: Any = line
            for key in keys:
                value = value.get(key, "") if isinstance(value, dict) else ""  # which is no number
            if line.get("event") == event and (value is None or isinstance(value, (int, float))):
                points.append((line["step"], value))
        return [step for step, _ in points], [value for _, value in points]


def read_run(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        FileNotFoundError: If there is no such folder, or it holds neither a model nor a log.
        ValueError: If one of its files is damaged.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no run folder {folder}; `maskris train` writes one (--out)")
    model = model_folder(folder)
    log, recipe, state = folder / METRICS, folder / RECIPE, folder / LAST / STATE
    if model is None and not log.is_file():
        inside = sorted(path.name for path in folder.iterdir())
        raise FileNotFoundError(
            f"{folder} is no run folder: it has neither {BEST}/ nor {LAST}/ nor {METRICS}, but "
            f"{', '.join(inside[:6]) or 'nothing'}{', …' if len(inside) > 6 else ''}"
        )
    text = recipe.read_text(encoding="utf-8") if recipe.is_file() else ""
    try:
        settings = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{recipe} is no YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{recipe} holds no recipe, which is a mapping of keys to values")
    lines = _lines(log) if log.is_file() else ()
    checkpoint = "" if model is None else model.relative_to(folder).as_posix()
    return RunRecord(folder, checkpoint, text, settings, lines, read_json(state) if state.is_file() else {})


def recipe_of(model: Path) -> Path | None:
    """The recipe of the run that a model comes from: of a run folder, or of a ``best`` or ``last`` folder in one."""
    run = model.parent if model.name in (BEST, LAST) and not (model / RECIPE).is_file() else model
    return run / RECIPE if (run / RECIPE).is_file() else None


def _lines(file: Path) -> list[Mapping[str, Any]]:
    """The lines of a metrics file; the last one may be cut off, in a run that is being written or was killed."""
    lines = file.read_text(encoding="utf-8").splitlines()
    records: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get("step"), (int, float)):
                raise ValueError("it has no step")
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{file}, line {number}: {error}") from error
            break
        records.append(record)
    return records


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and "class_path" in value:
        name = value["class_path"]
        return {key: name} | _flat(value.get("init_args") or {}, key) | {key: name}
    if not isinstance(value, dict) or not value:
        return {key: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flat(inner, f"{key}.{name}" if key else str(name))
    return flat


def names_of(folders: Sequence[Path]) -> list[str]:
    """A short name for each folder: the parts of its path in which they differ.

    ``a/CARIS/seed-0`` and ``a/LAVT/seed-0`` are CARIS and LAVT; a single one is called by its last part.

    Raises:
        ValueError: If a folder is given twice.
    """
    parts = [folder.absolute().parts for folder in folders]
    if len(set(parts)) < len(parts):
        same = next(str(folder) for folder, one in zip(folders, parts, strict=True) if parts.count(one) > 1)
        raise ValueError(f"The run {same} is given twice")
    head = _common([one[:-1] for one in parts])  # at least one part is left of each
    tails = [one[head:] for one in parts]
    cut = _common([tail[:0:-1] for tail in tails])
    return ["/".join(tail[: len(tail) - cut]) for tail in tails]


def _common(paths: Sequence[tuple[str, ...]]) -> int:
    """Parts at the beginning that are the same in all paths."""
    return sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False)))
