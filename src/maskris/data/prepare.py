"""Annotations of any format to one checked Parquet file; the command `maskris prepare`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from maskris.data.checks import checked_tables, write_rejects
from maskris.data.published import Counts, published_counts
from maskris.data.readers import (
    Problem,
    Reading,
    Wording,
    partitions,
    scan_coco,
    scan_grefcoco,
    scan_jsonl,
    scan_refer,
)
from maskris.data.table import ReferringTable

Format = Literal["auto", "refer", "grefcoco", "coco", "jsonl"]


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did. Printing it with rich shows a table.

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

    def table(self) -> Table:
        """The counts, beside the published ones where they exist."""
        name = escape(" ".join(part for part in (self.dataset, self.split_by) if part))
        name += ", raw text" if self.text == "raw" else ""
        table = Table(title=f"{name}: read / published" if self.published else name, title_justify="left")
        table.add_column("split")
        for column in ("images", "referents", "expressions"):
            table.add_column(column, justify="right")
        for split in dict.fromkeys([*self.counts, *self.published]):
            read, known = self.counts.get(split, Counts(0, 0, 0)), self.published.get(split, UNKNOWN)
            table.add_row(
                split,
                *beside(read, known),
            )
        if any(not known.confirmed for known in self.published.values()):
            table.caption = DOUBT
        return table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.table()
        if self.rejects is not None:
            yield Text(f"{self.num_rejected} row(s) left out: {self.rejects}")
        yield Text(f"Written: {self.out}")


def prepare(
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


UNKNOWN = Counts(None, None, None)
DOUBT = "? quoted in the literature, without a second source"


def beside(read: Counts, known: Counts = UNKNOWN) -> tuple[str, str, str]:
    """Images, referents and expressions, each with a slash and the published number where there is one."""

    def pair(ours: int | None, theirs: int | None) -> str:
        return f"{ours:,}" if theirs is None else f"{ours:,} / {theirs:,}"

    expressions = pair(read.expressions, known.expressions)
    doubt = "" if known.confirmed else " ?"
    return pair(read.images, known.images), pair(read.referents, known.referents), expressions + doubt
