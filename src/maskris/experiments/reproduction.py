"""`reproduce`: published numbers measured again, by a training of their recipe or with weights that are there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskris.evaluation.bootstrap import Interval, Unit
from maskris.evaluation.result import Evaluation
from maskris.experiments.claims import Claim, load_claims
from maskris.experiments.measurement import Measurement, Reproduction, names_of, part_of
from maskris.experiments.recipe import Recipe
from maskris.experiments.released_reproduction import reproduce_released
from maskris.experiments.run import Log, silent, train
from maskris.experiments.verify import (
    Finding,
    judge,
    recipe_differences,
    split_differences,
    training_data_differences,
    weights_differences,
)
from maskris.models.base import RISModel, weights_sha256
from maskris.models.loading import load_model
from maskris.models.weights.released import find_released


def reproduce(
    dataset: str | None = None,
    data: Sequence[str | Path] = (),
    *,
    recipe: str | None = None,
    checkpoint: str | Path | None = None,
    released: str | Sequence[str] | None = None,
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
        dataset: Such as refcoco, refcoco+ or refcocog; by default all that the recipe or the released checkpoint has
            claims about.
        data: Parquet files written by `prepare_dataset`.
        recipe: Whose claims to measure; by default the first that the claims name for the data set.
        checkpoint: Run folder, model folder or Hub id to evaluate instead of training.
        released: Names of released checkpoints to evaluate by what their authors print for them, or ``"all"``; nothing
            is trained. One that can't be had is named in `Reproduction.failed`.
        claims: A YAML file of claims; by default those of the paper, or of the authors of the released checkpoints.
        splits: Measure only these splits.
        out: Folder of the run, the evaluated rows and ``reproduction.json``; by default ``reproductions/<recipe>`` or
            ``reproductions/<released>``.
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
    measurement = Measurement(data, splits, interval_unit, resamples, log, options)
    folder = None if out is None else Path(out)
    if released is not None:
        names = [released] if isinstance(released, str) else released
        others = {"--recipe": recipe, "--checkpoint": checkpoint, "--model-class": model_class}
        if given := [name for name, value in others.items() if value is not None] + [*overrides]:
            raise ValueError(f"A released checkpoint is taken as it is; leave {given[0]} out")
        return reproduce_released(names, measurement, dataset=dataset, claims=claims, out=folder)
    known = load_claims(claims)
    chosen = choose_claims(known, dataset, recipe)
    name = str(chosen[0].recipe)
    if checkpoint and overrides:
        raise ValueError(f"{overrides[0]} is for training, but a checkpoint is taken as it is")
    measurement.check(chosen)
    folder = folder or Path("reproductions") / Path(name).stem
    source = str(checkpoint or folder / "run")
    differences = []
    if checkpoint is None:
        result = train(name, measurement.table, source, overrides=overrides, log=log)
        if result.interrupted is not None:
            return Reproduction((), {}, {}, folder, result.interrupted)
        of_recipe = [claim for claim in known if claim.recipe == name]
        differences += training_data_differences(of_recipe, measurement.table, Recipe(name).splits)
    model = load_model(source, model_class)
    differences += recipe_differences(Recipe(name), model, source)
    parts = measurement.parts(chosen)

    def judged(claim: Claim, evaluation: Evaluation, interval: Interval) -> Finding:
        doubts = [*split_differences(claim, parts[part_of(claim)]), *weights_differences(claim, source), *differences]
        return judge(claim, evaluation, interval, doubts)

    evaluations = measurement.evaluate(model, parts, folder, source)
    about = {
        "recipe": name,
        "overrides": list(overrides),
        "model": source,
        "trained": "by this command" if checkpoint is None else "before; only its evaluation is reproduced",
        "weights_sha256": weights_sha256(model),
        "claims": "those of the paper" if claims is None else str(claims),
        **measurement.to_dict(),
    }
    findings = measurement.findings(chosen, evaluations, judged, {})
    made = Reproduction(tuple(findings), evaluations, about, folder)
    made.save()
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
        hint = f"; for released weights, --released {dataset}" if find_released(str(dataset)) else ""
        there = names_of(claim.dataset for claim in claims)
        raise ValueError(f"There is no claim about {dataset}, but about {there}{hint}")
    recipes = [claim.recipe for claim in about if claim.recipe is not None]
    if not recipes:
        raise ValueError(f"No claim about {dataset} has a recipe that would reproduce it")
    if recipe is not None and recipe not in recipes:
        raise ValueError(
            f"There is no claim of {recipe} about {dataset or 'anything'}; recipes are {names_of(recipes)}"
        )
    return [claim for claim in about if claim.recipe == (recipe or recipes[0])]
