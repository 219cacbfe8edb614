"""What `prepare` does with what was read: every image is decoded, and bad rows are refused or set aside."""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from maskris.data.rows import InvalidData, Problem, Reading
from maskris.data.table import ReferringTable


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
    # Half a character, a reason for being here, is written as \ud83d, which is how JSON writes it too.
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
