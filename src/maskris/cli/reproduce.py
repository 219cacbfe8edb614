"""Published numbers, measured again: train by the recipe or take a checkpoint, evaluate, and give a verdict."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from maskris.cli.common import say, show

if TYPE_CHECKING:
    from maskris.data.table import ReferringTable
    from maskris.evaluation.bootstrap import Unit
    from maskris.evaluation.result import Evaluation
    from maskris.experiments.claims import Claim
    from maskris.experiments.verify import Finding


Part = tuple[str, str]
"""What an evaluation is about: data set, partition and split in one string, and the name of the protocol."""


def reproduce(
    dataset: str | None = None,
    *,
    data: list[Path] | None = None,
    recipe: str | None = None,
    checkpoint: str | None = None,
    claims: Path | None = None,
    splits: list[str] | None = None,
    out: Path | None = None,
    list: bool = False,  # noqa: A002 (the option's name)
    interval_unit: Literal["expression", "image", "referent"] = "image",
    resamples: int = 2000,
    batch_size: int = 32,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    workers: int = 2,
    model_class: str | None = None,
    overrides: list[str] | None = None,
) -> int:
    """Measure published numbers again: claimed, measured, difference, interval and verdict, one row for each claim.

    Trains by the claims' recipe, or takes a checkpoint, and evaluates every split under the claims' protocol. Killed
    and given again, the same command goes on; what was evaluated of the same weights and data is not evaluated again.
    A claim is verified only on its whole split, and only if its value lies within the interval or is reached.

    Args:
        dataset: Such as refcoco, refcoco+ or refcocog; by default all that the recipe has claims about.
        data: Parquet files written by `maskris prepare`.
        recipe: Whose claims to measure; by default the first that the claims name for the data set.
        checkpoint: Evaluate this run folder, model folder or Hub id instead of training.
        claims: A YAML file of claims; by default those of the paper.
        splits: Measure only these splits.
        out: Folder for the run, the evaluated rows, reproduction.json and reproduction.md; by default
            reproductions/<recipe>.
        list: List the claims and do nothing else.
        interval_unit: What is drawn again for the intervals: expressions, or all those about an image or a referent
            together.
        resamples: How often.
        batch_size: Most expressions evaluated at once.
        device: Where to evaluate, such as cuda or cpu; the fastest by default.
        precision: Numbers in which the evaluated network computes.
        workers: Processes that load images for the evaluation.
        model_class: Class of a model of your own, such as my_module.MyModel.
        overrides: Keys of the recipe with their values.
    """
    from maskris.cli.train import train
    from maskris.data.table import open_tables
    from maskris.evaluation.cache import evaluate_cached
    from maskris.experiments.claims import load_claims
    from maskris.experiments.recipe import Recipe, find
    from maskris.experiments.verify import recipe_differences, training_data_differences
    from maskris.models.base import weights_sha256
    from maskris.models.loading import load_model
    from maskris.utils.process import fastest_device, is_first_process, join_processes

    known = load_claims(claims, check_recipe=find)
    if list:
        _list([claim for claim in known if dataset in (None, claim.dataset) and recipe in (None, claim.recipe)])
        return 0
    chosen = _choose(known, dataset, recipe)
    name = str(chosen[0].recipe)
    if not data:
        raise ValueError("Give the data: --data FILE.parquet ..., written by `maskris prepare`")
    if checkpoint and overrides:
        raise ValueError(f"{overrides[0]} is for training, but a checkpoint is taken as it is")
    table = open_tables(data)
    parts = _parts(table, chosen, splits)
    folder = out or Path("reproductions") / Path(name).stem
    source = checkpoint or str(folder / "run")
    doubts = []
    if checkpoint is None:
        if code := train(name, data=data, out=Path(source), overrides=overrides):
            return code
        doubts += training_data_differences(
            [claim for claim in known if claim.recipe == name], table, Recipe(name).splits
        )
    model = load_model(source, model_class)
    doubts += recipe_differences(Recipe(name), model, source)
    place = join_processes(device) or device or fastest_device()
    evaluated: dict[Part, Evaluation] = {}
    for (what, protocol), rows in parts.items():
        file = folder / "rows" / f"{what.replace(' ', '-')}-{protocol}.parquet"
        options: dict[str, Any] = {"batch_size": batch_size, "device": place, "workers": workers, "name": source}
        evaluated[what, protocol], new = evaluate_cached(model, rows, protocol, file, precision=precision, **options)
        if is_first_process():
            say(f"{what}: {len(evaluated[what, protocol]):,} expressions{'' if new else ', evaluated before'}; {file}")
    if is_first_process():
        findings = _judge(chosen, evaluated, parts, splits, doubts, interval_unit, resamples)
        about = {
            "recipe": name,
            "overrides": overrides or [],
            "model": source,
            "trained": "by this command" if checkpoint is None else "before; only its evaluation is reproduced",
            "weights_sha256": weights_sha256(model),
            "data": [str(file) for file in data],
            "claims": "those of the paper" if claims is None else str(claims),
            "interval": {"level": 0.95, "unit": interval_unit, "resamples": resamples, "seed": 0},
            "precision": precision,
        }
        _report(findings, evaluated, about, folder)
    return 0


def _choose(claims: "Sequence[Claim]", dataset: str | None, recipe: str | None) -> "list[Claim]":
    """The claims to measure: of one recipe, because that makes one model."""
    if dataset is None and recipe is None:
        raise ValueError(
            "Say which claims: a data set such as refcoco, or --recipe; `maskris reproduce --list` lists them"
        )
    about = [claim for claim in claims if dataset in (None, claim.dataset)]
    if not about:
        raise ValueError(f"There is no claim about {dataset}, but about {_names(claim.dataset for claim in claims)}")
    recipes = [claim.recipe for claim in about if claim.recipe is not None]
    if not recipes:
        raise ValueError(f"No claim about {dataset} has a recipe that would reproduce it")
    if recipe is not None and recipe not in recipes:
        raise ValueError(f"There is no claim of {recipe} about {dataset or 'anything'}; recipes are {_names(recipes)}")
    return [claim for claim in about if claim.recipe == (recipe or recipes[0])]


def _names(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _parts(
    table: "ReferringTable", claims: "Sequence[Claim]", splits: Sequence[str] | None
) -> "dict[tuple[str, str], ReferringTable]":
    """The data of each claim to measure, by its name and protocol; what isn't there is left out."""
    from maskris.experiments.claims import data_name

    if splits and (unknown := [name for name in splits if name not in {claim.split for claim in claims}]):
        raise ValueError(
            f"There is no claim about the split {', '.join(unknown)}, but about {_names(c.split for c in claims)}"
        )
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(zip(*map(table.column, ("dataset", "split_by", "split")), strict=True)):
        rows.setdefault(data_name(*name), []).append(row)
    parts = {
        (claim.data, str(claim.protocol)): table.take(rows[claim.data])
        for claim in claims
        if claim.data in rows and (not splits or claim.split in splits)
    }
    if not parts:
        wanted = _names(claim.data for claim in claims if not splits or claim.split in splits)
        raise ValueError(f"The claims are about {wanted}, but the data holds {', '.join(rows) or 'nothing'}")
    return parts


def _judge(
    claims: "Sequence[Claim]",
    evaluated: "dict[Part, Evaluation]",
    parts: "dict[Part, ReferringTable]",
    splits: Sequence[str] | None,
    doubts: Sequence[str],
    unit: "Unit",
    resamples: int,
) -> "list[Finding]":
    from maskris.evaluation.bootstrap import Interval, bootstrap_intervals
    from maskris.experiments.verify import Finding, judge, split_differences

    sure = {part: bootstrap_intervals(result, unit=unit, resamples=resamples) for part, result in evaluated.items()}
    findings = []
    for claim in claims:
        part = (claim.data, str(claim.protocol))
        if part not in evaluated:
            chosen_away = splits and claim.split not in splits
            reason = "left out by --splits" if chosen_away else f"the data has no {claim.data}"
            findings.append(Finding(claim, "not run", (reason,)))
            continue
        interval = sure[part].get(claim.metric, Interval(None, None, None))
        about_data = split_differences(claim, parts[part])
        findings.append(judge(claim, evaluated[part], interval, [*about_data, *doubts]))
    return findings


def _report(
    findings: "Sequence[Finding]", evaluated: "dict[Part, Evaluation]", about: dict[str, Any], folder: Path
) -> None:
    """Show the findings, and write them as JSON and Markdown."""
    from importlib.metadata import version

    from maskris.reporting.scores import describe
    from maskris.reporting.tables import to_markdown

    show(findings)
    measured = {f"{what} ({protocol})": describe(result) for (what, protocol), result in evaluated.items()}
    sources = {f"{what} ({protocol})": dict(result.data) for (what, protocol), result in evaluated.items()}
    content = {
        "maskris": version("maskris"),
        **about,
        "evaluations": measured,
        "evaluated_data": sources,
        "findings": [finding.to_dict() for finding in findings],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "reproduction.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    uncertain = list(dict.fromkeys(note for finding in findings for note in finding.claim.uncertain))
    text = [
        f"# Reproduction of {about['recipe']}",
        f"Model: {about['model']}, trained {about['trained']}. Data: {', '.join(about['data'])}. Intervals: "
        f"{about['interval']['resamples']:,} bootstrap resamples over {about['interval']['unit']}s.",
        to_markdown(findings),
        "\n".join(f"- {what}: {summary}" for what, summary in measured.items()),
        *(["What is uncertain about the claims:", "\n".join(f"- {note}" for note in uncertain)] if uncertain else []),
    ]
    (folder / "reproduction.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    say(f"Written: {folder / 'reproduction.json'}, {folder / 'reproduction.md'}")


def _list(claims: "Sequence[Claim]") -> None:
    """A table for people, or Markdown where the output goes to a file."""
    from rich.console import Console

    from maskris.reporting.tables import to_markdown

    if not claims:
        raise ValueError("There is no such claim; `maskris reproduce --list` lists all of them")
    if Console().is_terminal:
        show(claims)
    else:
        say(to_markdown(claims))
