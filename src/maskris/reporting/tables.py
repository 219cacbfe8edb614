"""Scores as tables for the terminal (rich) and for documents (Markdown), in per cent as papers print them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from maskris.evaluation.metrics import Scores

if TYPE_CHECKING:
    from maskris.evaluation.bootstrap import Unit
    from maskris.evaluation.result import Evaluation


NOTHING = "–"  # noqa: RUF001 (an en dash: no expression defines this number)


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction in per cent, or a dash where nothing defines it."""
    return NOTHING if value is None or value != value else f"{100 * value:.{digits}f}"


def columns(groups: Mapping[str, Scores]) -> list[str]:
    """The headings that fit these scores; gRefCOCO's appear only where expressions without referent do."""
    scores = next(iter(groups.values()), None)
    if scores is None:
        return ["N"]
    # GRES calls the same two numbers cIoU and gIoU.
    pair = ["cIoU", "gIoU"] if scores.protocol.empty_target == "hit" else ["oIoU", "mIoU"]
    headings = ["N", *pair, *(f"Pr@{label}" for label in scores.precision), "box acc."]
    if any(s.n_empty for s in groups.values()):
        headings += ["no target", *(["gIoU"] if "gIoU" not in pair else []), "N-acc", "T-acc"]
    return headings


def cells(scores: Scores, headings: Sequence[str]) -> list[str]:
    """One row of text under `columns`."""
    hit = scores.protocol.empty_target == "hit"
    values = {
        "N": f"{scores.n:,}",
        "oIoU": percent(scores.oiou),
        "cIoU": percent(scores.oiou),
        "mIoU": percent(scores.miou),
        "gIoU": percent(scores.miou if hit else scores.giou),
        "box acc.": percent(scores.box_accuracy),
        "no target": f"{scores.n_empty:,}",
        "N-acc": percent(scores.n_acc),
        "T-acc": percent(scores.t_acc),
        **{f"Pr@{label}": percent(value) for label, value in scores.precision.items()},
    }
    return [values[heading] for heading in headings]


def scores_table(groups: Mapping[str, Scores], title: str = "", heading: str = "", caption: str = "") -> Table:
    """A table for the terminal with one row per group.

    Args:
        groups: Scores by name of the group.
        title: Above the table.
        heading: Over the names.
        caption: Below the table; the protocol belongs here.
    """
    headings = columns(groups)
    table = Table(box=box.SIMPLE_HEAD, padding=0, title_justify="left")
    table.title, table.caption, table.caption_justify = title or None, caption or None, "left"
    table.add_column(heading, overflow="fold")  # on a narrow terminal the names are wrapped, never the numbers
    for name in headings:
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True, min_width=1 if name == "N" else 6)
    for name, scores in groups.items():
        table.add_row(escape(name), *cells(scores, headings))
    return table


def scores_markdown(groups: Mapping[str, Scores], heading: str = "") -> str:
    """A Markdown table with one row per group."""
    headings = columns(groups)
    return markdown_table([heading, *headings], [[name, *cells(scores, headings)] for name, scores in groups.items()])


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table; the first columns are texts, the others are numbers, at the right."""
    heads, *lines = (
        f"| {' | '.join(cell.replace('|', chr(92) + '|') or ' ' for cell in row)} |" for row in (headings, *rows)
    )
    return "\n".join([heads, f"|{'---|' * texts}{'---:|' * (len(headings) - texts)}", *lines])


def intervals_table(evaluation: "Evaluation", unit: "Unit" = "expression") -> Table:
    """A table for the terminal: every metric of every split with its 95 % bootstrap interval, in per cent.

    Args:
        evaluation: The result.
        unit: What is drawn again; see `bootstrap.intervals`.
    """
    from maskris.evaluation.bootstrap import bootstrap_intervals

    table = Table(box=box.SIMPLE_HEAD, title=f"95 % bootstrap intervals over {unit}s", title_justify="left")
    table.add_column("split", overflow="fold")
    table.add_column("metric", no_wrap=True)
    for heading in ("value", "from", "to"):
        table.add_column(heading, justify="right", no_wrap=True)
    for split, part in evaluation.parts("split").items():
        for i, (metric, interval) in enumerate(bootstrap_intervals(part, unit=unit).items()):
            ends = map(percent, (interval.value, interval.low, interval.high))
            table.add_row("" if i else escape(split), metric, *ends)
        table.add_section()
    return table


def tables(evaluation: "Evaluation", by: Sequence[str] = ("split", "length", "size", "kind")) -> list[Table]:
    """Tables for the terminal: by split first, then every breakdown that has more than one group.

    Args:
        evaluation: The result.
        by: Breakdowns; see `Evaluation.breakdown`.
    """
    made: list[Table] = []
    for key, groups in _groups(evaluation, by):
        caption = summary(evaluation) if not made else ""
        made.append(scores_table(groups, title=f"By {key}", heading=key, caption=caption))
    return made


def to_markdown(evaluation: "Evaluation", by: Sequence[str] = ("split", "length", "size", "kind")) -> str:
    """The same as `tables` as a Markdown text, protocol included."""
    parts = [summary(evaluation)]
    for key, groups in _groups(evaluation, by):
        parts.append(f"### By {key}\n\n{scores_markdown(groups, key)}")
    return "\n\n".join(parts) + "\n"


def summary(evaluation: "Evaluation") -> str:
    """What was measured, in a sentence or two: protocol, model, perturbation, truncated sentences."""
    model, settings = evaluation.model, evaluation.settings
    size = model.get("input_size")
    parts = [evaluation.protocol.describe((size[0], size[1]) if size else None)]
    if name := model.get("name") or model.get("class"):
        parts.append(f"model {name}")
    if settings.get("perturbation"):
        parts.append(f"under {settings['perturbation']}")
    if not len(evaluation):
        parts.append("the table holds no expression, so there was nothing to evaluate")
    if settings.get("reduced_decoding"):
        parts.append("large JPEGs decoded at a reduced size")
    if settings.get("truncated"):
        parts.append(f"{settings['truncated']:,} expressions were too long and lost their last words")
    return "; ".join(parts)


def _groups(evaluation: "Evaluation", by: Sequence[str]) -> list[tuple[str, dict[str, Scores]]]:
    made: list[tuple[str, dict[str, Scores]]] = []
    for i, key in enumerate(by):
        groups = evaluation.breakdown(key)
        if i == 0 and len(groups) != 1:  # also without any: a line of dashes
            groups["all"] = evaluation.scores
        if i == 0 or len(groups) > 1:
            made.append((key, groups))
    return made
