"""Annotations of any format to one checked Parquet file; the command `maskris prepare`."""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from maskris.data.published_counts import Counts, published_counts
from maskris.data.readers.coco import scan_coco
from maskris.data.readers.collector import InvalidData, Problem, Reading
from maskris.data.readers.jsonl import scan_jsonl
from maskris.data.readers.refer import Wording, partitions, scan_grefcoco, scan_refer
from maskris.data.table import ReferringTable

Format = Literal["auto", "refer", "grefcoco", "coco", "jsonl"]


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did.

    Attributes:
        dataset: Name of the data set.
        split_by: Who split it; ``""`` where that means nothing.
        out: The Parquet file.
        counts: Images, referents and expressions of each split.
        published: The same as published; empty where nothing is.
        problems: Of the rows that were left out (with ``skip_invalid``).
        rejects: File with those rows; ``None`` where there are none.
        text: Which of several sentences were read, ``"sent"`` or ``"raw"``; ``""`` where there is no choice.
    """

    dataset: str
    split_by: str
    out: Path
    counts: dict[str, Counts]
    published: dict[str, Counts] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    rejects: Path | None = None
    text: str = ""

    @property
    def num_rejected(self) -> int:
        """Rows that were left out."""
        return len({(problem.file, problem.where) for problem in self.problems})


def prepare_dataset(
    source: Path,
    out: Path,
    *,
    format: Format = "auto",  # noqa: A002 - the name of the command's option
    dataset: str | None = None,
    split_by: str | None = None,
    images: Path | None = None,
    text: Wording = "sent",
    skip_invalid: bool = False,
    check_images: bool = True,
    progress: bool = True,
) -> PrepareReport:
    """Read annotations, check every row and every image, and write one Parquet file.

    All problems are reported at once: missing or undecodable images, images of another size than annotated, polygons
    more than 2 px outside (the border itself is often overstepped by rounding), empty masks, damaged masks, unknown
    splits, duplicate ids, empty expressions. The same source gives the same bytes.

    Args:
        source: Folder in the REFER or gRefCOCO layout (the root that holds the data sets, or one data set's folder), a
            COCO-style JSON file, or a JSON Lines file.
        out: The Parquet file to write; it is replaced atomically, and not touched if the data is refused.
        format: ``"auto"`` goes by the file's ending and the folder's contents.
        dataset: Which data set of the folder; a name for the table where `source` is a file.
        split_by: Which partition, for example ``"unc"``; not needed if there is only one.
        images: Folder of the images, if it isn't found beside the annotations.
        text: ``"raw"`` takes what the annotators typed instead of the cleaned sentences (REFER and gRefCOCO only).
        skip_invalid: Leave invalid rows out and write them, with their problems, to ``<out>.rejects.jsonl``.
        check_images: Whether to decode every image; without, the images needn't be on this machine (those of JSON Lines
            whose masks are polygons must: their sizes are written nowhere else).
        progress: Whether to show a progress bar.

    Raises:
        FileNotFoundError: If the source is missing or incomplete.
        InvalidData: If there are problems; the error holds all of them. With `skip_invalid`, only if none of the rows
            is valid or the images' folder is missing.
        ValueError: If it isn't clear what to read, or a file is damaged or unsafe.
    """
    source, out = Path(source), Path(out)
    reading = scan(source, format=format, dataset=dataset, split_by=split_by, images=images, text=text)
    (table,) = checked_tables([reading], skip_invalid=skip_invalid, check_images=check_images, progress=progress)
    table.save(out)
    rejects = write_rejects([reading], out)
    first = table.row(0)
    return PrepareReport(
        first.dataset,
        first.split_by,
        out,
        count(table),
        published_counts(first.dataset, first.split_by),
        reading.problems,
        rejects,
        first.text,
    )


def scan(
    source: Path,
    *,
    format: Format = "auto",  # noqa: A002 - as in `prepare`
    dataset: str | None = None,
    split_by: str | None = None,
    images: Path | None = None,
    text: Wording = "sent",
) -> Reading:
    """Read rows and problems with the reader that suits; arguments and errors are those of `prepare`."""
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist")
    if source.is_file():
        found = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "coco"}.get(source.suffix.lower())
        kind = found if format == "auto" else format
        if text != "sent" and kind in ("coco", "jsonl"):
            raise ValueError(
                f"{source} has one sentence for each expression: only REFER and gRefCOCO distinguish the {text} text "
                "from the cleaned one; leave --text out"
            )
        if kind == "jsonl":
            return scan_jsonl(source, images, dataset=dataset)
        if kind == "coco":
            return scan_coco(source, images, dataset=dataset)
        raise ValueError(
            f"{source} is a file: expected COCO-style .json or .jsonl, or give the folder that holds the data set "
            f"(format is {format!r})"
        )
    if format in ("coco", "jsonl"):
        raise ValueError(f"{source} is a folder, but the format {format!r} needs a file")
    root, dataset, split_by, name = _partition(source, dataset, split_by)
    if format == "grefcoco" or (format == "auto" and (name.startswith("grefs") or dataset.startswith("grefcoco"))):
        return scan_grefcoco(root, dataset, split_by, images, text=text)
    return scan_refer(root, dataset, split_by, images, text=text)


def _partition(source: Path, dataset: str | None, split_by: str | None) -> tuple[Path, str, str, str]:
    """Root, data set, partition and name of the annotation file that a folder and two optional names mean."""
    if partitions(source) and dataset in (None, source.resolve().name):
        source = source.resolve()
        folders = [source]
    elif dataset is not None:
        folders = [source / dataset]
        if not folders[0].is_dir():
            raise FileNotFoundError(f"{source} has no folder {dataset!r}; data sets in it: {_names(source) or 'none'}")
    else:
        folders = [folder for folder in sorted(source.iterdir()) if folder.is_dir()]
    choices = [(folder, by, name) for folder in folders for name, by in partitions(folder)]
    matching = [choice for choice in choices if split_by in (None, choice[1])]
    if len({(folder, by) for folder, by, _ in matching}) == 1:
        folder, by, name = matching[0]
        return folder.parent, folder.name, by, name
    listed = ", ".join(sorted({f"--dataset {folder.name} --split-by {by}" for folder, by, _ in choices}))
    if not choices:
        raise FileNotFoundError(f"{source} holds no refs(*).p or grefs(*).json: expected <data set>/refs(<split by>).p")
    raise ValueError(f"{'Several data sets fit' if matching else 'Nothing fits'} in {source}; choose one of: {listed}")


def _names(source: Path) -> str:
    return ", ".join(folder.name for folder in sorted(source.iterdir()) if folder.is_dir() and partitions(folder))


def count(table: ReferringTable) -> dict[str, Counts]:
    """Images, referents and expressions of each split, in the order train, val, test, others."""
    order = {name: number for number, name in enumerate(("train", "val", "test"))}
    counts = {}
    for name in sorted(table.splits, key=lambda split: (order.get(split, len(order)), split)):
        split = table.split(name)
        counts[name] = Counts(split.num_images, len(split), split.num_expressions)
    return counts


def checked_tables(
    readings: Sequence[Reading], *, skip_invalid: bool, check_images: bool, progress: bool
) -> list[ReferringTable]:
    """The tables of what was read from one source or several; arguments as in `prepare`.

    Raises:
        InvalidData: If there are problems in any of them.
    """
    if check_images:
        report_images(readings, progress=progress)
    tables: list[ReferringTable] = []
    problems: list[Problem] = []
    for reading in readings:
        try:
            tables.append(reading.table(skip_invalid))
        except InvalidData as error:
            problems += error.problems
    if problems:
        hint = "Nothing was written."
        if not skip_invalid and not any(problem.fatal for problem in problems):
            hint += " Correct these rows, or leave them out with --skip-invalid."
        raise InvalidData(problems, hint)
    return tables


def report_images(readings: Sequence[Reading], *, progress: bool = True) -> None:
    """Decode every image once and add what is wrong with it to the problems of its rows.

    Args:
        readings: Get ``"missing image"``, ``"undecodable image"`` and ``"size mismatch"``.
        progress: Whether to show a progress bar.
    """
    rows: dict[Path, list[tuple[Reading, int]]] = defaultdict(list)
    for reading in readings:
        if not reading.images_root.is_dir():
            message = f"there is no folder of images at {reading.images_root}; say where it is with --images"
            reading.problems.append(Problem(str(reading.images_root), "", "missing image", message, None, fatal=True))
            continue
        reported = {problem.row for problem in reading.problems if problem.kind in _NO_IMAGE}
        for number, row in enumerate(reading.rows):
            if row.get("image") and number not in reported:
                rows[reading.images_root / row["image"]].append((reading, number))
    with ThreadPoolExecutor(min(16, (os.cpu_count() or 1) + 2)) as pool:  # Pillow decodes outside the interpreter lock
        for path, result in zip(rows, _track(pool.map(_decode, rows), len(rows), progress), strict=True):
            for reading, number in rows[path]:
                if trouble := _trouble(reading.rows[number], result):
                    reading.report(number, *trouble)


_NO_IMAGE = ("missing image", "undecodable image")

Decoded = tuple[int, int] | tuple[str, str]
"""Height and width, or kind and message of a problem."""


def _decode(path: Path) -> Decoded:
    try:
        with Image.open(path) as image:
            size = image.height, image.width
            image.draft("L", (1, 1))  # a JPEG is read to its end, but at an eighth of its size: three times faster
            image.load()
    except FileNotFoundError:
        return "missing image", f"{path} does not exist"
    # Damaged files make the decoders raise all kinds of errors; whichever it is, the image can't be used.
    except Exception as error:
        return "undecodable image", f"{path} can't be decoded: {error}"
    return size


def _trouble(row: dict[str, object], decoded: Decoded) -> tuple[str, str] | None:
    if isinstance(decoded[0], str):
        return decoded[0], str(decoded[1])
    if row.get("height") is None or decoded == (row["height"], row["width"]):
        return None
    return (
        "size mismatch",
        f"{row['image']} has {decoded[1]} x {decoded[0]} pixels, but is annotated as {row['width']} x {row['height']}",
    )


def _track(results: Iterable[Decoded], total: int, progress: bool) -> Iterable[Decoded]:
    columns = (TextColumn("Checking images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress, transient=True) as bar:
        yield from bar.track(results, total=total)


def write_rejects(readings: Sequence[Reading], out: Path) -> Path | None:
    """Write the rows that were left out, one per line with its problems, to a file beside `out`; ``None`` if none."""
    path = out.with_name(f"{out.name}.rejects.jsonl")
    if not any(reading.problems for reading in readings):
        path.unlink(missing_ok=True)  # those of an earlier run would be misleading
        return None
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # A lone surrogate, a reason for being here, is written as \ud83d, which is how JSON writes it too.
    with temporary.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        for reading in readings:
            by_place: dict[tuple[str, str], list[Problem]] = defaultdict(list)
            for problem in reading.problems:
                by_place[problem.file, problem.where].append(problem)
            for (file, where), problems in by_place.items():
                row = next((reading.rows[problem.row] for problem in problems if problem.row is not None), {})
                kept = {key: row.get(key) for key in ("ref_id", "image_id", "split", "image", "expressions")}
                found = [{"kind": problem.kind, "message": problem.message} for problem in problems]
                line = {"file": file, "where": where, **kept, "problems": found}
                stream.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
    temporary.replace(path)
    return path
