"""Claims and findings about them as tables."""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from maskris.experiments.claims import Claim
from maskris.experiments.reproduction import Reproduction
from maskris.experiments.verify import Finding, reasons
from maskris.reporting.scores import describe
from maskris.reporting.tables import NOTHING, Table
from maskris.utils.files import atomic_file

Result = Sequence[Claim] | Sequence[Finding] | Reproduction


def tables(result: Result) -> list[Table]:
    """Claims, one row for those that differ in the split alone; or findings, with the reasons below them."""
    return [_table(result.findings if isinstance(result, Reproduction) else result, reasons_below=True)]


def markdown(result: Result) -> str:
    """The same as one Markdown table; the reasons stand in the rows of findings. A reproduction is a page."""
    return _page(result) if isinstance(result, Reproduction) else _table(result).to_markdown()


def _table(result: Sequence[Claim] | Sequence[Finding], reasons_below: bool = False) -> Table:
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


def _claims(claims: Sequence[Claim]) -> Table:
    same = attrgetter("method", "dataset", "split_by", "metric", "protocol", "recipe", "source")
    rows = []
    for (method, dataset, split_by, metric, protocol, recipe, source), group in groupby(claims, same):
        values = ", ".join(f"{claim.split} {claim.value:.2f}" for claim in group)
        how = [protocol or NOTHING, recipe or NOTHING]
        state = "not run" if recipe else "not supported"
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
