"""Claims and findings about them as tables."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import cast

from maskris.experiments.claims import Claim
from maskris.experiments.reproduction import Reproduction
from maskris.experiments.verify import Finding, reasons
from maskris.reporting.scores import describe
from maskris.reporting.tables import NOTHING, Table
from maskris.utils.files import atomic_file

Result = Sequence[Claim] | Sequence[Finding] | Reproduction


def tables(result: Result) -> list[Table]:
    """Claims, one row for those that differ in the split alone; or findings, with the reasons below them."""
    if isinstance(result, Reproduction):
        return tables(result.findings)
    if result and isinstance(result[0], Claim):
        return [_claims(cast(Sequence[Claim], result))]
    findings = cast(Sequence[Finding], result)
    caption = [
        f"{reason} ({'all' if len(names) == len(findings) else ', '.join(names)})"
        for reason, names in reasons(findings).items()
    ]
    return [_findings(findings, [finding.verdict for finding in findings], "\n".join(caption))]


def markdown(result: Result) -> str:
    """The same as one Markdown table; the reasons stand in the rows of findings. A reproduction is a page."""
    if isinstance(result, Reproduction):
        return _page(result)
    if result and isinstance(result[0], Claim):
        return _claims(cast(Sequence[Claim], result)).to_markdown()
    findings = cast(Sequence[Finding], result)
    return _findings(findings, [str(finding) for finding in findings]).to_markdown()


def _findings(findings: Sequence[Finding], verdicts: Sequence[str], caption: str = "") -> Table:
    """Claimed, measured, difference, interval and verdict, one row per claim."""
    rows = []
    for finding, verdict in zip(findings, verdicts, strict=True):
        claim, difference = finding.claim, finding.difference
        measured = NOTHING if finding.measured is None else f"{finding.measured:.2f}"
        between = NOTHING if finding.low is None else f"{finding.low:.2f} to {finding.high:.2f}"
        apart = NOTHING if difference is None else f"{difference:+.2f}"
        rows.append([claim.name, f"{claim.value:.2f}", measured, apart, between, verdict])
    headings = ["claim", "claimed", "measured", "difference", "95 % interval", "verdict"]
    return Table(headings, rows, caption=caption)


def _claims(claims: Sequence[Claim]) -> Table:
    rows = []
    for same, group in groupby(
        claims, lambda c: (c.method, c.dataset, c.split_by, c.metric, c.protocol, c.recipe, c.source)
    ):
        method, dataset, split_by, metric, protocol, recipe, source = same
        values = ", ".join(f"{claim.split} {claim.value:.2f}" for claim in group)
        state = "not run" if recipe else "not supported"
        how = [protocol or NOTHING, recipe or NOTHING]
        rows.append([method, f"{dataset} {split_by}", metric, values, *how, source, state])
    return Table(["method", "data", "metric", "claimed", "protocol", "recipe", "source", "verdict"], rows)


def write_reproduction(made: Reproduction) -> Path:
    """Write ``reproduction.md`` into the folder of a reproduction; its path."""
    file = made.folder / "reproduction.md"
    with atomic_file(file) as page:
        page.write(_page(made))
    return file


def _page(made: Reproduction) -> str:
    about, interval = made.about, made.about["interval"]
    uncertain = list(dict.fromkeys(note for finding in made.findings for note in finding.claim.uncertain))
    text = [
        f"# Reproduction of {about['recipe']}",
        f"Model: {about['model']}, trained {about['trained']}. Data: {', '.join(about['data'])}. Intervals: "
        f"{interval['resamples']:,} bootstrap resamples over {interval['unit']}s.",
        markdown(made.findings),
        "\n".join(f"- {what} ({protocol}): {describe(e)}" for (what, protocol), e in made.evaluations.items()),
        *(["What is uncertain about the claims:", "\n".join(f"- {note}" for note in uncertain)] if uncertain else []),
    ]
    return "\n\n".join(text) + "\n"
