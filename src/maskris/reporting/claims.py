"""Claims and findings about them as tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from maskris.evaluation.metrics import Scores
from maskris.experiments.authors_claims import not_runnable
from maskris.experiments.claims import Claim
from maskris.experiments.measurement import Reproduction
from maskris.experiments.verify import Finding, reasons
from maskris.reporting.scores import describe, scores_table
from maskris.reporting.tables import NOTHING, Table
from maskris.utils.files import atomic_file

Result = Sequence[Claim] | Sequence[Finding] | Reproduction


def tables(result: Result) -> list[Table]:
    """Claims, one row for those that differ in the split alone; or findings, with the reasons below them.

    Each released checkpoint has a table of its own for each data set; all that a reproduction measured is another.
    """
    if isinstance(result, Reproduction) and "released" in result.about:
        return [*(_on_one_data_set(some) for some in _by_checkpoint(result, "dataset", "split_by")), *_measured(result)]
    if isinstance(result, Reproduction):
        return [_table(result.findings, reasons_below=True), *_measured(result)]
    if claims := _of_released(result):
        return [_short(_released(list(some))) for _, some in groupby(claims, attrgetter("released"))]
    return [_table(result, reasons_below=True)]


def markdown(result: Result) -> str:
    """The same as one Markdown table; the reasons stand in the rows of findings. A reproduction is a page."""
    return _page(result) if isinstance(result, Reproduction) else _table(result).to_markdown()


def _table(result: Sequence[Claim] | Sequence[Finding], reasons_below: bool = False) -> Table:
    if claims := _of_released(result):
        return _released(claims)
    if claims := [one for one in result if isinstance(one, Claim)]:
        return _claims(claims)
    findings = [one for one in result if isinstance(one, Finding)]
    rows = []
    for finding in findings:
        claim, difference = finding.claim, finding.difference
        measured = NOTHING if finding.measured is None else f"{finding.measured:.2f}"
        between = NOTHING if finding.low is None else f"{finding.low:.2f} to {finding.high:.2f}"
        apart = NOTHING if difference is None else f"{difference:+.2f}"
        verdict = finding.verdict if reasons_below else str(finding)
        rows.append([claim.name, f"{claim.value:.2f}", measured, apart, between, verdict])
    caption = [
        f"{reason} ({'all' if len(names) == len(findings) else ', '.join(names)})"
        for reason, names in reasons(findings).items()
    ]
    headings = ["claim", "claimed", "measured", "difference", "95 % interval", "verdict"]
    return Table(headings, rows, caption="\n".join(caption) if reasons_below else "")


def _of_released(result: Sequence[Claim] | Sequence[Finding]) -> list[Claim]:
    """The claims if all of them are about released checkpoints alone, else none."""
    claims = [one for one in result if isinstance(one, Claim) and one.released and not one.recipe]
    return claims if len(claims) == len(result) else []


def _claims(claims: Sequence[Claim]) -> Table:
    same = attrgetter("method", "dataset", "split_by", "metric", "protocol", "recipe", "released", "source")
    rows = []
    for (method, dataset, split_by, metric, protocol, recipe, released, source), group in groupby(claims, same):
        values = ", ".join(f"{claim.split} {claim.value:.2f}" for claim in group)
        how = [protocol or NOTHING, recipe or NOTHING, released or NOTHING]
        state = "not run" if recipe else "not supported"
        rows.append([method, f"{dataset} {split_by}", metric, values, *how, source, state])
    headings = ["method", "data", "metric", "claimed", "protocol", "recipe", "released weights", "source", "verdict"]
    return Table(headings, rows)


def _released(claims: Sequence[Claim]) -> Table:
    """One row for each checkpoint and split, with a column for each metric."""
    metrics = list(dict.fromkeys(claim.metric for claim in claims))
    splits: dict[tuple[str, str], dict[str, Claim]] = {}
    for claim in claims:
        splits.setdefault((str(claim.released), claim.data), {})[claim.metric] = claim
    rows = []
    for (name, data), some in splits.items():
        values = [f"{some[metric].value:.2f}" if metric in some else NOTHING for metric in metrics]
        one = next(iter(some.values()))
        reason = not_runnable(one)
        state = "not run" if reason is None else f"not runnable: {reason}"
        rows.append([name, data, *values, one.protocol or NOTHING, one.text, state])
    return Table(["checkpoint", "data", *metrics, "protocol", "text", "verdict"], rows)


def _short(table: Table) -> Table:
    """The table of one checkpoint for a narrow terminal: what is the same in every row stands in the title."""
    name, *_, protocol, text, _ = table.rows[0]
    rows = [[*row[1:-3], row[-1]] for row in table.rows]
    return Table([*table.headings[1:-3], "verdict"], rows, f"{name} ({protocol}, {text})")


def _by_checkpoint(made: Reproduction, *also: str) -> list[list[Finding]]:
    """The findings about each released checkpoint, and about each of what else they differ in."""
    same = attrgetter("claim.released", *(f"claim.{key}" for key in also))
    return [list(some) for _, some in groupby(made.findings, same)]


def _on_one_data_set(findings: Sequence[Finding]) -> Table:
    """Findings about a checkpoint and a data set, both in the title, so that each has its line in a terminal."""
    table, one = _table(findings, reasons_below=True), findings[0].claim
    rows = [[f"{f.claim.split} {f.claim.metric}", *row[1:]] for f, row in zip(findings, table.rows, strict=True)]
    return replace(table, rows=rows, title=f"{one.released}: {one.dataset} {one.split_by}".rstrip())


def _measured(made: Reproduction) -> list[Table]:
    """All numbers of the evaluations, also those that nobody claims."""
    groups: dict[str, dict[str, Scores]] = {}
    for part, evaluation in made.evaluations.items():
        name = " ".join(filter(None, (part.released, part.data)))
        groups.setdefault(part.protocol, {})[name] = evaluation.scores
    return [
        scores_table(scores, f"All that was measured under the protocol {protocol}", "data")
        for protocol, scores in groups.items()
    ]


def write_reproduction(made: Reproduction) -> Path:
    """Write ``reproduction.md`` into the folder of a reproduction; its path."""
    file = made.folder / "reproduction.md"
    with atomic_file(file) as page:
        page.write(_page(made))
    return file


def _page(made: Reproduction) -> str:
    about, interval = made.about, made.about["interval"]
    uncertain = list(dict.fromkeys(note for finding in made.findings for note in finding.claim.uncertain))
    drawn = f"{interval['resamples']:,} bootstrap resamples over {interval['unit']}s."
    data = f"Data: {', '.join(about['data'])}."
    if released := about.get("released"):
        text = [
            "# Reproduction of released checkpoints",
            f"{data} A claim is reproduced if the measured number is at most {about['tolerance']} points from it. The "
            f"intervals ({drawn.removesuffix('.')}) decide nothing here.",
        ]
        for findings in _by_checkpoint(made):
            text += _section(findings, released[findings[0].claim.released])
    else:
        text = [
            f"# Reproduction of {about['recipe']}",
            f"Model: {about['model']}, trained {about['trained']}. {data} Intervals: {drawn}",
            markdown(made.findings),
        ]
    text += [table.to_markdown("##") for table in _measured(made)]
    text += ["\n".join(f"- {part}: {describe(one)}" for part, one in made.evaluations.items())]
    if uncertain:
        text += ["What is uncertain about the claims:", "\n".join(f"- {note}" for note in uncertain)]
    return "\n\n".join(filter(None, text)) + "\n"


def _section(findings: Sequence[Finding], about: Mapping[str, Any]) -> list[str]:
    """Of one released checkpoint: what it is, its table, and the reasons below it."""
    table = _table(findings, reasons_below=True)
    weights = f" SHA-256 of the weights: {about['weights_sha256']}." if "weights_sha256" in about else ""
    return [
        f"## {findings[0].claim.released}",
        f"{about['title']}; {about['license']}; <{about['page']}>.{weights}",
        table.to_markdown(),
        "\n".join(f"- {reason}" for reason in table.caption.splitlines()),
    ]
