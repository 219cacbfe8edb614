"""Validation of annotations and images of any format, and the Parquet file of the referents."""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from maskris.data.published_counts import Counts, published_sizes
from maskris.data.readers import read_annotations
from maskris.data.readers.refer import Wording
from maskris.data.readers.validation import ImageProblem, InvalidData, Problem, ReadResult, image_size
from maskris.data.table import SPLITS, ReferringTable
from maskris.utils.files import atomic_path
from maskris.utils.progress import track


@dataclass(frozen=True)
class PrepareReport:
    """Result of `prepare_dataset`.

    Attributes:
        dataset: Name of the data set.
        split_by: Who split it; ``""`` where that means nothing.
        out: The Parquet file.
        counts: Images, referents and expressions of each split.
        published: The same as published; empty where nothing is.
        problems: Of the rows that were left out (with ``skip_invalid``).
        rejects: File with those rows; ``None`` where there are none.
        text: Which of several sentences were read, ``"sent"`` or ``"raw"``; ``""`` where there is no choice.
        notes: What the reader tells of the source, such as where it wrote the photos that it holds.
    """

    dataset: str
    split_by: str
    out: Path
    counts: dict[str, Counts]
    published: dict[str, Counts] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    rejects: Path | None = None
    text: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def num_rejected(self) -> int:
        """Rows that were left out."""
        return len({(problem.file, problem.where) for problem in self.problems})


def prepare_dataset(
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    format: str = "auto",  # noqa: A002 - the name of the command's option
    dataset: str | None = None,
    split_by: str | None = None,
    images: str | Path | None = None,
    text: Wording = "sent",
    skip_invalid: bool = False,
    check_images: bool = True,
    incomplete: bool = False,
    progress: bool = True,
) -> PrepareReport:
    """Read annotations, check every row and every image, and write one Parquet file.

    All problems are reported at once: missing or undecodable images, images of another size than annotated, polygons
    more than 2 px outside (the border itself is often overstepped by rounding), empty masks, damaged masks, unknown
    splits, duplicate ids, empty expressions. The same source gives the same bytes.

    Args:
        source: Folder in the REFER or gRefCOCO layout (the root that holds the data sets, or one data set's folder), a
            COCO-style JSON file, a JSON Lines file, one or several Parquet files from the Hub or a folder of them, a
            folder with photos and ``metadata.jsonl``, or what a reader of one's own takes.
        out: The Parquet file to write; it is replaced atomically, and not touched if the data is refused.
        format: ``"auto"`` goes by the file's ending and the folder's contents; otherwise ``"refer"``, ``"grefcoco"``,
            ``"coco"``, ``"jsonl"``, ``"hub"``, ``"imagefolder"``, a name given by `register_reader`, or a dotted path
            such as ``"my_module.read"``.
        dataset: Which data set of the folder; a name for the table where `source` is a file.
        split_by: Which partition, for example ``"unc"``; not needed if there is only one.
        images: Folder of the images, if it isn't found beside the annotations.
        text: ``"raw"`` takes the sentences as annotators typed them, not the cleaned ones (REFER and gRefCOCO only).
        skip_invalid: Leave invalid rows out and write them, with their problems, to ``<out>.rejects.jsonl``.
        check_images: Whether to decode every image; without, the images needn't be on this machine (those of JSON Lines
            whose masks are polygons must: their sizes are written nowhere else).
        incomplete: Take data of the Hub that carry less than whole masks, or fewer expressions than were published.
        progress: Whether to show a progress bar.

    Photos that the source itself holds are written to the folder ``<out>-images`` beside the file, and used again.

    Raises:
        FileNotFoundError: If the source is missing or incomplete.
        InvalidData: If there are problems; the error holds all of them. With `skip_invalid`, only if none of the rows
            is valid or the images' folder is missing.
        ValueError: If it isn't clear what to read, or a file is damaged or unsafe.
    """
    out = Path(out)
    options: dict[str, Any] = {"format": format, "dataset": dataset, "split_by": split_by, "images": images}
    options |= {"text": text, "incomplete": incomplete, "progress": progress}
    options["photos"] = out.with_name(f"{out.stem}-images")
    result = read_annotations(source, **options)
    used: set[Path] = set()
    try:
        (table,) = checked_tables([result], skip_invalid=skip_invalid, check_images=check_images, progress=progress)
        used = {table.images_root / image for image in table.column("image")}
        table.save(out)
    finally:
        if result.photos is not None:
            result.photos.remove(used)
    rejects = write_rejects([result], out)
    first = table.row(0)
    name = first.dataset, first.split_by
    sizes = count(table), published_sizes(*name)
    return PrepareReport(*name, out, *sizes, result.problems, rejects, first.text, result.notes)


def count(table: ReferringTable) -> dict[str, Counts]:
    """Images, referents and expressions of each split, in the order of `SPLITS`."""
    order = dict.fromkeys([*SPLITS, *sorted(table.splits)])
    parts = {name: table.split(name) for name in order if name in table.splits}
    return {name: Counts(part.num_images, len(part), part.num_expressions) for name, part in parts.items()}


def checked_tables(
    results: Sequence[ReadResult], *, skip_invalid: bool, check_images: bool, progress: bool
) -> list[ReferringTable]:
    """The tables of one source or several; arguments and errors are those of `prepare_dataset`."""
    if check_images:
        _report_images(results, progress)
    tables: list[ReferringTable] = []
    problems: list[Problem] = []
    for result in results:
        try:
            tables.append(result.table(skip_invalid))
        except InvalidData as error:
            problems += error.problems
    if problems:
        hint = "Nothing was written."
        if not skip_invalid and not any(problem.fatal for problem in problems):
            hint += " Correct these rows, or leave them out with --skip-invalid."
        raise InvalidData(problems, hint)
    return tables


def _report_images(results: Sequence[ReadResult], progress: bool) -> None:
    """Decode every image once and add its problems to the results, for each of its rows."""
    rows: dict[Path, list[tuple[ReadResult, int]]] = defaultdict(list)
    for result in results:
        if not result.images_root.is_dir():
            message = f"there is no folder of images at {result.images_root}; say where it is with --images"
            result.problems.append(Problem(str(result.images_root), "", "missing image", message, None, fatal=True))
            continue
        reported = {one.row for one in result.problems if one.kind in ("missing image", "undecodable image")}
        for number, row in enumerate(result.rows):
            if row.get("image") and number not in reported:
                rows[result.images_root / row["image"]].append((result, number))
    with ThreadPoolExecutor(min(16, (os.cpu_count() or 1) + 2)) as pool:  # Pillow decodes outside the interpreter lock
        sizes = track(pool.map(partial(image_size, decode=True), rows), "Checking images", len(rows), shown=progress)
        for path, size in zip(rows, sizes, strict=True):
            for result, number in rows[path]:
                row = result.rows[number]
                if isinstance(size, ImageProblem):
                    result.report(number, *size)
                elif row.get("height") is not None and size != (row["height"], row["width"]):
                    annotated = f"{row['width']} x {row['height']}"
                    message = f"{row['image']} has {size[1]} x {size[0]} pixels, but is annotated as {annotated}"
                    result.report(number, "size mismatch", message)


def write_rejects(results: Sequence[ReadResult], out: Path) -> Path | None:
    """Write the rows that were left out, one per line with its problems, to a file beside `out`; ``None`` if none."""
    path = out.with_name(f"{out.name}.rejects.jsonl")
    if not any(result.problems for result in results):
        path.unlink(missing_ok=True)  # those of an earlier run would be misleading
        return None
    # A lone surrogate, a reason for being here, is written as \ud83d, which is how JSON writes it too.
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        for result in results:
            by_place: dict[tuple[str, str], list[Problem]] = defaultdict(list)
            for problem in result.problems:
                by_place[problem.file, problem.where].append(problem)
            for (file, where), problems in by_place.items():
                row = next((result.rows[problem.row] for problem in problems if problem.row is not None), {})
                kept = {key: row.get(key) for key in ("ref_id", "image_id", "split", "image", "expressions")}
                found = [{"kind": problem.kind, "message": problem.message} for problem in problems]
                line = {"file": file, "where": where, **kept, "problems": found}
                stream.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
    return path
