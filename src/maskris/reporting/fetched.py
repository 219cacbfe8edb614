"""Published data sets as tables: what can be fetched, what is going to be, and what was."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from maskris.data.published_counts import published_sizes
from maskris.fetch.datasets import FetchReport
from maskris.fetch.manifest import Item
from maskris.fetch.plan import FetchPlan
from maskris.fetch.referents import differences
from maskris.reporting.data import counts_table
from maskris.reporting.tables import Table

_SHOWN = 20  # photos that could not be fetched


def tables(result: Sequence[Item] | FetchPlan | FetchReport) -> list[Table]:
    """One table, or for a report one for each partition that was read."""
    if isinstance(result, FetchPlan):
        return [_planned(result)]
    return _fetched(result) if isinstance(result, FetchReport) else [_known(result)]


def _known(items: Sequence[Item]) -> Table:
    rows = [
        [
            item.name,
            item.title,
            ", ".join(item.partitions),
            _megabytes(_sum(part.bytes for part in item.sources[0].parts)),
            f"{item.used:,}",
            sum(max(len(part.urls) for part in source.parts) for source in item.sources),
        ]
        for item in items
    ]
    caption = "`maskris fetch NAME` fetches annotations with the photos that they need, or a collection of photos."
    return Table(["name", "data", "partitions", "MB", "photos", "addresses"], rows, "published data sets", caption)


def _planned(plan: FetchPlan) -> Table:
    rows = [[one.what, one.origin, _megabytes(one.download), _megabytes(one.disk), one.folder] for one in plan.steps]
    unknown = "; the size of ? is printed nowhere" if any(one.download is None for one in plan.steps) else ""
    caption = f"{plan.free / 1e9:,.1f} GB are free{unknown}."
    return Table(["to fetch", "from", "MB", "MB on disk", "to"], rows, caption=caption)


def _fetched(report: FetchReport) -> list[Table]:
    found = []
    for (name, split_by), counts in report.counts.items():
        table = counts_table(f"{name} {split_by}", counts, published := published_sizes(name, split_by))
        other = "; ".join(differences(counts, published))
        verdict = f"Not as published: {other}." if other else "As published." if published else ""
        found.append(replace(table, caption="\n".join(filter(None, (table.caption, verdict)))))
    if report.photos:
        rows = [[one.folder, one.fetched, one.there, len(one.failed)] for one in report.photos]
        photos = Table(["photos in", "fetched", "there before", "failed"], rows)
        lines = [f"{name}: {reason}" for name, reason in report.failed[:_SHOWN]]
        if more := len(report.failed) - len(lines):
            lines.append(f"and {more:,} more")
        lines += ["The same command tries the failed ones again."] if lines else []
        found.append(replace(photos, caption="\n".join(lines)))
    return found


def _sum(sizes: Iterable[int | None]) -> int | None:
    known = list(sizes)
    return None if None in known else sum(filter(None, known))


def _megabytes(size: int | None) -> str:
    return "?" if size is None else f"{size / 1e6:,.1f}"
