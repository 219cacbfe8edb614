"""`label_table`: photos and phrases in, a table with pseudo masks out."""

import hashlib
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from maskris.data import masks
from maskris.data.table import SCHEMA, TRAIN, ReferringTable
from maskris.data.tokenizer import ExpressionTokenizer
from maskris.labeling.label_store import LabelStore
from maskris.labeling.photo_labels import Made, PhotoLabeler, PhotoRows, Wanted
from maskris.labeling.refine.rules import Rule
from maskris.labeling.report import Label, LabelReport, Outcome
from maskris.labeling.select import ResponseMapScorer, Selection
from maskris.labeling.teachers.base import Teacher
from maskris.labeling.teachers.names import find_teacher
from maskris.models.clip.scorer import CLIPScorer
from maskris.models.encoders.sources import Source
from maskris.models.encoders.tokenizers import OPENAI, build_clip_tokenizer
from maskris.utils.process import fastest_device
from maskris.utils.progress import show_progress

_READ = ("split", "image", "height", "width", "expressions", "box")
"""All that is looked at in a table: masks may be missing or wrong."""

_SCORER_TOKENS = 77  # CLIP's


def label_table(
    table: ReferringTable,
    teacher: Teacher | str,
    out: str | Path,
    *,
    selection: Selection = "mean",
    rule: Rule | str | None = None,
    superpixels: int = 0,
    splits: Sequence[str] = (TRAIN,),
    min_score: float | None = None,
    missing: Literal["drop", "keep"] = "drop",
    scorer: Source | ResponseMapScorer = "ViT-B/32",
    device: str | None = None,
    batch_size: int = 32,
    photos_at_once: int = 8,
    photos_per_shard: int = 64,
    progress: bool = True,
) -> LabelReport:
    """Give referents masks that a teacher makes from their photos and expressions, and write them to a new table.

    Masks of the table are never read. Rows of the chosen splits get ``mask``, ``box``, ``area``, ``mask_source``
    (``"pseudo"``) and ``mask_origin`` anew; those of other splits, such as annotated ones for validation, stay as they
    are. A box that a row has is shown to the teacher; only teachers that are made for boxes look at it.

    The same call goes on where an earlier one was killed, from a folder beside `out` that is removed at the end, and
    ends with the same bytes (on hardware and kernels that repeat their results, such as CPUs).

    Args:
        table: Referents, with or without masks.
        teacher: A teacher or its name, see `find_teacher`.
        out: The Parquet file to write.
        selection: How a referent with several expressions gets one map, see `maskris.labeling.select.Selection`.
        rule: Where the map is cut, such as ``"threshold:0.5"`` or ``"peak:0.5"``; by default the teacher's.
        superpixels: Average the map over about so many superpixels before it is cut; 0 for none.
        splits: To label.
        min_score: Leave masks out of which the teacher is less sure.
        missing: What becomes of referents without a mask: ``"drop"`` leaves them out; ``"keep"`` writes them with an
            empty mask of source ``"none"``, which no training takes for the absence of the referent.
        scorer: CLIP of the selection ``"prms"``, see `CLIPScorer`, or one with another tokenizer.
        device: Of a teacher given by name, and of the scorer; the fastest by default.
        batch_size: Most expressions at once, of a teacher given by name.
        photos_at_once: That the teacher gets together.
        photos_per_shard: After how many the work is kept.
        progress: Show photos per second and the time that remains, on stderr.

    Returns:
        What became of every referent.

    Raises:
        FileNotFoundError: If there is no such teacher or photo.
        ValueError: If an argument is none, nothing was found for any referent, or the work folder is that of another
            call.
        FolderInUseError: If another process labels to the same file.
    """
    out = Path(out)
    for name, value in (("photos_at_once", photos_at_once), ("photos_per_shard", photos_per_shard)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if superpixels < 0 or superpixels == 1:
        raise ValueError(f"There are at least 2 superpixels, or 0 for none, not {superpixels}")
    if selection not in get_args(Selection):
        raise ValueError(f"The selection is one of {', '.join(get_args(Selection))}, not {selection!r}")
    if missing not in ("drop", "keep"):
        raise ValueError(f"missing is drop or keep, not {missing!r}")
    if min_score is not None and not 0 <= min_score <= 1:
        raise ValueError(f"min_score is a score in [0, 1], not {min_score:g}")
    if unknown := [name for name in splits if name not in table.splits]:
        raise ValueError(f"The data has no split {', '.join(unknown)}, but {', '.join(table.splits)}")
    rule = Rule.parse(rule) if isinstance(rule, str) else rule
    seen = table.arrow.select(_READ)
    photos = _photos(seen, table, splits)
    teacher = find_teacher(teacher, device=device, batch_size=batch_size) if isinstance(teacher, str) else teacher
    judge = _judge(scorer, device) if selection == "prms" else None
    labeler = PhotoLabeler(teacher, selection, rule or Rule.parse(teacher.rule), superpixels, judge)
    manifest = {
        "origin": labeler.origin, "data_sha256": _sha256(seen), "splits": list(splits),
        "photos_per_shard": photos_per_shard, "maskris": version("maskris"),
    }  # fmt: skip
    store = LabelStore(out.with_name(f"{out.name}.work"), manifest)
    with store.lock():
        store.claim()
        made = _label(
            labeler, photos, store, at_once=photos_at_once, per_shard=photos_per_shard, scored=min_score is not None,
            progress=progress,
        )  # fmt: skip
        origin = labeler.origin + (f"; score at least {min_score:g}" if min_score is not None else "")
        result, report = _assemble(table, made, out, origin, min_score, missing == "keep")
        result.save(out)
        shutil.rmtree(store.store.folder, ignore_errors=True)
    return report


def _photos(seen: pa.Table, table: ReferringTable, splits: Sequence[str]) -> list[PhotoRows]:
    """The photos of the chosen splits in the order of their first rows."""
    columns = {name: seen[name].to_pylist() for name in _READ}
    photos: dict[str, list[Wanted]] = {}
    for row, (split, image) in enumerate(zip(columns["split"], columns["image"], strict=True)):
        if split in splits:
            x, y, width, height = columns["box"][row] or (0.0,) * 4
            box = (x, y, width, height) if width > 0 and height > 0 else None
            photos.setdefault(image, []).append(Wanted(row, columns["expressions"][row], box))
    return [
        PhotoRows(table.images_root / image, columns["height"][some[0].row], columns["width"][some[0].row], some)
        for image, some in photos.items()
    ]


def _judge(scorer: Source | ResponseMapScorer, device: str | None) -> ResponseMapScorer:
    if isinstance(scorer, ResponseMapScorer):
        return scorer
    # OpenAI's CLIPs share a tokenizer; a folder of another one has its own.
    own = isinstance(scorer, str | Path) and (Path(scorer) / "tokenizer_config.json").is_file()
    try:
        tokenizer = ExpressionTokenizer(build_clip_tokenizer(str(scorer) if own else OPENAI), _SCORER_TOKENS)
    except OSError as error:
        raise FileNotFoundError(
            "The selection prms needs a CLIP with its tokenizer, which is not here and can't be had from the Hub: name "
            f"a folder that holds both (--scorer), or select by mean or agreement. {error}"
        ) from error
    return ResponseMapScorer(CLIPScorer(scorer, tokenizer).to(device or fastest_device()), tokenizer)


def _label(
    labeler: PhotoLabeler,
    photos: Sequence[PhotoRows],
    store: LabelStore,
    *,
    at_once: int,
    per_shard: int,
    scored: bool,
    progress: bool,
) -> list[Made]:
    """The masks of all photos, those of earlier calls read; `scored` ones must have a score."""
    shards = [photos[start : start + per_shard] for start in range(0, len(photos), per_shard)]
    earlier = [store.read(number) for number in range(len(shards))]
    done = sum(len(shard) for shard, found in zip(shards, earlier, strict=True) if found is not None)
    made: list[Made] = []
    with show_progress("labeling", len(photos), done=done, unit="photos", shown=progress) as bar:
        for number, (shard, found) in enumerate(zip(shards, earlier, strict=True)):
            if found is None:
                found = []
                # Cut alike in every call: the same batches give the same bits.
                for start in range(0, len(shard), at_once):
                    some = shard[start : start + at_once]
                    found += labeler.label(some)
                    if scored and any(one.score is None for one in found):
                        raise ValueError("This teacher doesn't say how sure it is: leave out min_score (--min-score)")
                    bar.advance(len(some))
                store.write(number, found)
            made += found
    return sorted(made)


def _assemble(
    table: ReferringTable, made: Sequence[Made], out: Path, origin: str, min_score: float | None, keep: bool
) -> tuple[ReferringTable, LabelReport]:
    """The new table, and what became of each referent."""
    splits, heights, widths = (table.column(name) for name in ("split", "height", "width"))
    if min_score is not None and any(one.score is None for one in made):
        raise ValueError(
            "This teacher doesn't say how sure it is, so that there is no score to compare with a least one"
        )
    changed: dict[int, dict[str, Any]] = {}
    outcomes: dict[int, Outcome] = {}
    for one in made:
        size = heights[one.row], widths[one.row]
        unsure = min_score is not None and one.score is not None and one.score < min_score
        outcomes[one.row] = "nothing" if not one.area else "unsure" if unsure else "labeled"
        values = {"mask": one.mask, "area": one.area, "box": list(masks.box_of_counts(one.mask, *size))}
        changed[one.row] = {**values, "mask_source": "pseudo", "mask_origin": origin}
        if outcomes[one.row] != "labeled":
            empty = {"mask": masks.empty(*size), "area": 0, "box": [0.0] * 4}
            changed[one.row] = {**empty, "mask_source": "none", "mask_origin": ""}
    if "labeled" not in outcomes.values():
        raise ValueError(
            f"No referent of {len(made):,} got a mask ({origin}): look at what the teacher finds with `maskris predict`"
        )
    rows = [row for row in range(len(table)) if keep or outcomes.get(row, "labeled") == "labeled"]
    places = {row: place for place, row in enumerate(rows)}
    labels = [
        Label(
            one.row,
            places.get(one.row),
            splits[one.row],
            outcomes[one.row],
            one.area / (heights[one.row] * widths[one.row]),
            one.score,
        )
        for one in made
    ]
    arrow = table.arrow
    for name in ("mask", "area", "box", "mask_source", "mask_origin"):
        field = SCHEMA.field(name)
        before = arrow[name].to_pylist()
        column = [changed[row][name] if row in changed else before[row] for row in range(len(table))]
        arrow = arrow.set_column(SCHEMA.get_field_index(name), field, pa.array(column, field.type))
    result = ReferringTable(arrow, table.images_root).take(np.array(rows, dtype=np.int64))
    return result, LabelReport(out, origin, labels, keep, len(table) - len(made))


def _sha256(seen: pa.Table) -> str:
    digest = hashlib.sha256()
    for name in seen.column_names:
        digest.update(f"{name} {seen[name].to_pylist()!r}".encode())
    return digest.hexdigest()
