"""The command `maskris prepare --combine`: several data sets to one Parquet file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from maskris.data.checks import checked_tables, write_rejects
from maskris.data.mixing import TRAIN, Combination, Comparison, combine
from maskris.data.prepare import DOUBT, UNKNOWN, beside, count, scan
from maskris.data.published import published_counts
from maskris.data.published_list import read_published_list
from maskris.data.readers import Problem, Reading, Wording
from maskris.data.table import ReferringTable

DEFAULT_PARTITIONS = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}
"""Those that share out images; google's share out objects, so that its own train and val have photos in common."""

_NAMES = ("dataset", "split_by", "split")
_SHOWN = 5


@dataclass(frozen=True)
class CombinedReport:
    """What `prepare_combined` did. Printing it with rich shows tables.

    Attributes:
        out: The Parquet file.
        combination: What was dropped, merged and compared.
        problems: Of the rows that were left out (with ``skip_invalid``).
        rejects: File with those rows; ``None`` where there are none.
    """

    out: Path
    combination: Combination
    problems: list[Problem] = field(default_factory=list)
    rejects: Path | None = None

    def sizes(self) -> Table:
        """The combined training data and each member's splits for evaluation, beside the published counts."""
        raw = ", raw text" if "raw" in self.combination.table.column("text") else ""
        table = _table(f"combined{raw}: read / published", "split")
        whole = self.combination.table
        table.add_row("train, combined", *beside(count(whole)[TRAIN]))
        members: dict[tuple[str, str], list[int]] = {}
        for row, (dataset, split_by, split) in enumerate(zip(*map(whole.column, _NAMES), strict=True)):
            if split != TRAIN:
                members.setdefault((dataset, split_by), []).append(row)
        for (dataset, split_by), rows in members.items():
            published = published_counts(dataset, split_by)
            if any(not known.confirmed for known in published.values()):
                table.caption = DOUBT
            for split, counts in count(whole.take(rows)).items():
                name = " ".join(part for part in (dataset, split_by, split) if part)
                table.add_row(escape(name), *beside(counts, published.get(split, UNKNOWN)))
        return table

    def dropped(self) -> Table:
        """Training data of each member on images of evaluation splits."""
        table = _table("train data on images of evaluation splits", "train of", "also in")
        for member, whole in self.combination.members.items():
            table.add_row(escape(member), "", *beside(whole), end_section=False)
            for leak in self.combination.leaks:
                if leak.member == member:
                    table.add_row("", escape(leak.split), *beside(leak.counts))
            kept = self.combination.kept[member]
            table.add_row("", "kept", *beside(kept), end_section=True)
        table.caption = "an image may be in several splits" if self.combination.leaks else None
        return table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.dropped()
        if self.combination.comparison is not None:
            yield from _compared(self.combination.comparison)
        yield self.sizes()
        yield Text(
            f"{self.combination.merged:,} referent(s) joined to others of the same annotation, "
            f"{self.combination.repeated:,} repeated expression(s) left out."
        )
        if self.combination.contradictions:
            yield Text(
                f"{self.combination.contradictions:,} annotation(s) have different masks in different members; their "
                "referents were kept apart."
            )
        if self.rejects is not None:
            yield Text(f"{len({(one.file, one.where) for one in self.problems})} row(s) left out: {self.rejects}")
        yield Text(f"Written: {self.out}")


def _table(title: str, *names: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name)
    for name in ("images", "referents", "expressions"):
        table.add_column(name, justify="right")
    return table


def _compared(comparison: Comparison) -> RenderResult:
    table = _table(escape(f"training data by {comparison.file.name}, which is used"), "kept by")
    table.add_row("the list and our rule", *beside(comparison.both))
    table.add_row("our rule only: left out", *beside(comparison.only_rule))
    table.add_row("the list only: kept", *beside(comparison.only_list))
    yield table
    if comparison.only_list.images:
        yield Text("What only the list keeps is on images of evaluation splits: results on those will be too good.")
    if comparison.unknown:
        few = ", ".join(map(str, comparison.unknown[:_SHOWN])) + (", …" if len(comparison.unknown) > _SHOWN else "")
        yield Text(f"{len(comparison.unknown):,} of its entries, in no member's train split: {few}")


def prepare_combined(
    source: Path | None,
    members: Sequence[str],
    out: Path,
    *,
    split_by: str | None = None,
    images: Path | None = None,
    text: Wording = "sent",
    published_list: Path | None = None,
    skip_invalid: bool = False,
    check_images: bool = True,
    progress: bool = True,
) -> CombinedReport:
    """Combine data sets into one table without training images of any evaluation split, see `combine`.

    The same sources give the same bytes.

    Args:
        source: Folder that holds the members in the REFER or gRefCOCO layout; ``None`` if all are Parquet files.
        members: Names of data sets in `source`, or Parquet files that `prepare` wrote.
        out: The Parquet file to write; it is replaced atomically, and not touched if the data is refused.
        split_by: Partitions, such as ``"refcocog=google,refcoco=unc"``, where they aren't `DEFAULT_PARTITIONS`.
        images: Folder of the images of the members in `source`.
        text: See `prepare`; Parquet files keep what they have.
        published_list: File that names the training data to use instead; see `maskris.data.published_list`.
        skip_invalid: See `prepare`.
        check_images: See `prepare`; those of Parquet files were checked when they were written.
        progress: Whether to show a progress bar.

    Raises:
        FileNotFoundError: If a member or a file is missing.
        InvalidData: If there are problems in the members' annotations; the error holds all of them.
        ValueError: If it isn't clear what to read, a file is damaged or unsafe, or `combine` refuses.
    """
    partitions = _partitions(split_by, members)
    published = None if published_list is None else read_published_list(published_list)
    _check_sources(source, members, images, text)
    parts: list[ReferringTable | Reading] = []
    for member in members:
        if _is_table(member):
            parts.append(ReferringTable.open(member))
        else:
            assert source is not None
            parts.append(scan(source, dataset=member, split_by=partitions.get(member), images=images, text=text))
    readings = [part for part in parts if isinstance(part, Reading)]
    read = iter(checked_tables(readings, skip_invalid=skip_invalid, check_images=check_images, progress=progress))
    combination = combine([next(read) if isinstance(part, Reading) else part for part in parts], published)
    combination.table.save(out)
    problems = [problem for reading in readings for problem in reading.problems]
    return CombinedReport(out, combination, problems, write_rejects(readings, out))


def _is_table(member: str) -> bool:
    return member.endswith(".parquet")


def _check_sources(source: Path | None, members: Sequence[str], images: Path | None, text: Wording) -> None:
    folders = [member for member in members if not _is_table(member)]
    if folders and source is None:
        raise ValueError(
            f"{', '.join(folders)}: no Parquet files, so the folder that holds these data sets is needed first: "
            f"maskris prepare DATA --combine {' '.join(members)} …"
        )
    if source is not None and not folders:
        raise ValueError(f"{source} would not be read: all members are Parquet files. Leave it out")
    if len(folders) < len(members) and text != "sent":
        raise ValueError(
            "--text is for members that are read from their annotations; prepare the Parquet files with it"
        )
    if images is not None and not folders:
        raise ValueError("--images is for members that are read from their annotations; Parquet files name theirs")


def _partitions(split_by: str | None, members: Sequence[str]) -> dict[str, str]:
    """The partition of each member that has a default or is named."""
    partitions = dict(DEFAULT_PARTITIONS)
    for part in split_by.split(",") if split_by else []:
        name, equals, partition = part.strip().partition("=")
        if not (equals and partition):
            raise ValueError(f"With --combine, --split-by is such as refcocog=google,refcoco=unc, not {split_by}")
        if name not in members:
            raise ValueError(f"--split-by names {name}, which is none of the members {', '.join(members)}")
        partitions[name] = partition
    return partitions
