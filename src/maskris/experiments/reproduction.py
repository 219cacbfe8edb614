"""`reproduce`: published numbers measured again, by a training of their recipe or with a checkpoint."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from maskris.data.table import ReferringTable, open_tables
from maskris.evaluation.bootstrap import Interval, Unit, bootstrap_intervals
from maskris.evaluation.cache import evaluate_cached
from maskris.evaluation.result import Evaluation
from maskris.experiments.claims import Claim, data_name, load_claims
from maskris.experiments.recipe import Recipe
from maskris.experiments.run import Log, silent, train
from maskris.experiments.verify import Finding, judge, recipe_differences, split_differences, training_data_differences
from maskris.models.base import RISModel, weights_sha256
from maskris.models.loading import load_model
from maskris.utils.files import write_json
from maskris.utils.process import is_first_process

Part = tuple[str, str]
"""What an evaluation is about: data set, partition and split in one string, and the name of the protocol."""


@dataclass(frozen=True)
class Reproduction:
    """Claims beside what was measured.

    Attributes:
        findings: One for each claim; empty if the training was interrupted.
        evaluations: What was measured, by data and protocol.
        about: Recipe, model, data and settings: JSON types.
        folder: With the run, the evaluated rows and ``reproduction.json``.
        interrupted: The signal that stopped the training early; ``None`` if it came to its end.
    """

    findings: tuple[Finding, ...]
    evaluations: Mapping[Part, Evaluation]
    about: Mapping[str, Any]
    folder: Path
    interrupted: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "maskris": version("maskris"),
            **self.about,
            "evaluations": {
                f"{what} ({protocol})": {"protocol": evaluation.protocol.to_dict(), "notes": evaluation.notes}
                | {name: dict(getattr(evaluation, name)) for name in ("model", "data", "settings")}
                for (what, protocol), evaluation in self.evaluations.items()
            },
            "findings": [finding.to_dict() for finding in self.findings],
        }


def reproduce(
    dataset: str | None = None,
    data: Sequence[str | Path] = (),
    *,
    recipe: str | None = None,
    checkpoint: str | Path | None = None,
    claims: str | Path | None = None,
    splits: Sequence[str] | None = None,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    interval_unit: Unit = "image",
    resamples: int = 2000,
    model_class: type[RISModel] | str | None = None,
    log: Log = silent,
    **options: Any,
) -> Reproduction:
    """Train by the recipe of claims, or take a checkpoint, evaluate it under their protocols and judge the claims.

    A training that was interrupted goes on, and what was evaluated of the same weights and data is not evaluated again.

    Args:
        dataset: Such as refcoco, refcoco+ or refcocog; by default all that the recipe has claims about.
        data: Parquet files written by `prepare_dataset`.
        recipe: Whose claims to measure; by default the first that the claims name for the data set.
        checkpoint: Run folder, model folder or Hub id to evaluate instead of training.
        claims: A YAML file of claims; by default those of the paper.
        splits: Measure only these splits.
        out: Folder of the run, the evaluated rows and ``reproduction.json``; by default ``reproductions/<recipe>``.
        overrides: Of the recipe for the training; settings that differ from the recipe's verify nothing.
        interval_unit: As for `bootstrap_intervals`.
        resamples: As for `bootstrap_intervals`.
        model_class: As for `load_model`.
        log: Gets the sizes of the data, and what was evaluated.
        **options: ``batch_size``, ``device``, ``precision``, ``workers``, ``reduced_decoding`` of `evaluate`.

    Raises:
        ClaimError: If the claims can't be read.
        ValueError: If there is no such claim, or no data for it.
    """
    known = load_claims(claims)
    chosen = choose_claims(known, dataset, recipe)
    name = str(chosen[0].recipe)
    if not data:
        raise ValueError("Give the data: --data FILE.parquet ..., written by `maskris prepare`")
    if checkpoint and overrides:
        raise ValueError(f"{overrides[0]} is for training, but a checkpoint is taken as it is")
    table = open_tables([Path(file) for file in data])
    parts = _parts(table, chosen, splits)
    folder = Path("reproductions") / Path(name).stem if out is None else Path(out)
    source = str(checkpoint or folder / "run")
    differences = []
    if checkpoint is None:
        result = train(name, table, source, overrides=overrides, log=log)
        if result.interrupted is not None:
            return Reproduction((), {}, {}, folder, result.interrupted)
        of_recipe = [claim for claim in known if claim.recipe == name]
        differences += training_data_differences(of_recipe, table, Recipe(name).splits)
    model = load_model(source, model_class)
    differences += recipe_differences(Recipe(name), model, source)
    evaluations: dict[Part, Evaluation] = {}
    for (what, protocol), rows in parts.items():
        file = folder / "rows" / f"{what.replace(' ', '-')}-{protocol}.parquet"
        evaluation, new = evaluate_cached(model, rows, protocol, file, name=source, **options)
        evaluations[what, protocol] = evaluation
        if is_first_process():
            log(f"{what}: {len(evaluation):,} expressions{'' if new else ', evaluated before'}; {file}")
    sure = {part: bootstrap_intervals(e, unit=interval_unit, resamples=resamples) for part, e in evaluations.items()}
    findings = []
    for claim in chosen:
        part = (claim.data, str(claim.protocol))
        if part in evaluations:
            interval = sure[part].get(claim.metric, Interval(None, None, None))
            against = [*split_differences(claim, parts[part]), *differences]
            findings.append(judge(claim, evaluations[part], interval, against))
        else:
            left_out = splits and claim.split not in splits
            reason = "left out by --splits" if left_out else f"the data has no {claim.data}"
            findings.append(Finding(claim, "not run", (reason,)))
    about = {
        "recipe": name,
        "overrides": list(overrides),
        "model": source,
        "trained": "by this command" if checkpoint is None else "before; only its evaluation is reproduced",
        "weights_sha256": weights_sha256(model),
        "data": [str(file) for file in data],
        "claims": "those of the paper" if claims is None else str(claims),
        "interval": {"level": 0.95, "unit": interval_unit, "resamples": resamples, "seed": 0},
        "precision": options.get("precision", "fp32"),
    }
    made = Reproduction(tuple(findings), evaluations, about, folder)
    if is_first_process():
        write_json(folder / "reproduction.json", made.to_dict())
    return made


def choose_claims(claims: Sequence[Claim], dataset: str | None, recipe: str | None) -> list[Claim]:
    """The claims to measure: of one recipe, because that makes one model.

    Raises:
        ValueError: If there are none; says which there are.
    """
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


def _parts(table: ReferringTable, claims: list[Claim], splits: Sequence[str] | None) -> dict[Part, ReferringTable]:
    """The data of each claim to measure; what isn't there is left out."""
    there = _names(claim.split for claim in claims)
    if splits and (unknown := [name for name in splits if name not in {claim.split for claim in claims}]):
        raise ValueError(f"There is no claim about the split {', '.join(unknown)}, but about {there}")
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(zip(*map(table.column, ("dataset", "split_by", "split")), strict=True)):
        rows.setdefault(data_name(*name), []).append(row)
    wanted = [claim for claim in claims if not splits or claim.split in splits]
    parts = {(c.data, str(c.protocol)): table.take(rows[c.data]) for c in wanted if c.data in rows}
    if not parts:
        about = _names(claim.data for claim in wanted)
        raise ValueError(f"The claims are about {about}, but the data holds {', '.join(rows) or 'nothing'}")
    return parts
