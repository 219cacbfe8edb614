"""What makes a model another one than that of a claim: other settings, another network, other training data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from maskris.apps.recipe import Recipe, Splits
    from maskris.data.table import ReferringTable
    from maskris.evaluation.claims import Claim
    from maskris.models.base import RISModel

# Training settings that may differ: they are meant to vary, or change how a run computes but not what.
_FREE = ("seed", "precision", "accumulation")
_SHOWN = 3


def doubts_about_run(claimed: "Recipe", model: "RISModel", source: str) -> list[str]:
    """How a model differs from what a recipe makes.

    A run folder keeps its recipe, so every setting is compared. Of weights from elsewhere only the class and the input
    can be.

    Args:
        claimed: The recipe of the claims, without overrides.
        model: The model.
        source: Where it was loaded from.

    Returns:
        Differences in a few words each; empty where none is known.
    """
    kept = _kept_recipe(source)
    if kept is None:
        return _doubts_about_model(claimed, model)
    from maskris.apps.recipe import Recipe

    wanted, found = _settings(claimed), _settings(Recipe(kept))
    changed = [key for key in dict.fromkeys([*wanted, *found]) if wanted.get(key) != found.get(key)]
    if not changed:
        return []
    shown = [f"{key} {_brief(found.get(key))}, not {_brief(wanted.get(key))}" for key in changed[:_SHOWN]]
    more = [f"{len(changed) - _SHOWN} more"] if len(changed) > _SHOWN else []
    return [f"other settings ({'; '.join([*shown, *more])})"]


def doubts_about_training(claims: "Sequence[Claim]", table: "ReferringTable", splits: "Splits") -> list[str]:
    """How the training data differ from what is published about them.

    Args:
        claims: All claims of the recipe: their data sets are what it is trained on.
        table: The data at hand.
        splits: Of the recipe.
    """
    from maskris.data.published import published_counts

    sizes: dict[tuple[str, str], int] = {}
    combined: set[tuple[str, ...]] = set()  # of these, images of other splits were left out, so sizes say nothing
    columns = map(table.column, ("dataset", "split_by", "split", "origins", "expressions"))
    for dataset, split_by, split, origins, expressions in zip(*columns, strict=True):
        if split == splits.train and origins:
            combined |= {tuple(one.split()[:2]) for origin in origins for one in origin.split(", ")}
        elif split == splits.train:
            sizes[dataset, split_by] = sizes.get((dataset, split_by), 0) + len(expressions)
    doubts = []
    for dataset, split_by in dict.fromkeys((claim.dataset, claim.split_by) for claim in claims):
        published = published_counts(dataset, split_by).get(splits.train)
        found = sizes.pop((dataset, split_by), 0)
        if published is None or published.expressions in (None, found) or (dataset, split_by) in combined:
            continue
        doubts.append(
            f"trained on other data ({found:,} of {published.expressions:,} expressions of {dataset} {split_by})"
        )
    others = [f"{dataset} {split_by}".rstrip() for dataset, split_by in sizes]
    return [*doubts, f"trained on {', '.join(others)} too"] if others else doubts


def doubts_about_data(claim: "Claim", table: "ReferringTable") -> list[str]:
    """What is wrong with the rows of a claim's split, their number aside: masks that a model made, other sentences."""
    doubts = []
    if set(table.column("mask_source")) != {"annotated"}:
        doubts.append("masks that nobody annotated")
    if (texts := set(table.column("text")) - {""}) and texts != {claim.text}:
        hint = f"prepare it with --text {claim.text}"
        doubts.append(f"other sentences ({' and '.join(sorted(texts))}, not {claim.text}: {hint})")
    return doubts


def _kept_recipe(source: str) -> Path | None:
    """The recipe of the run that a checkpoint belongs to."""
    folder = Path(source)
    for file in (folder / "recipe.yaml", folder.parent / "recipe.yaml"):
        if file.is_file() and (file.parent == folder or folder.name in ("best", "last")):
            return file
    return None


def _settings(recipe: "Recipe") -> dict[str, Any]:
    """The resolved keys of a recipe that make the model what it is, such as ``strategy.image.ratio``."""
    values = yaml.safe_load(recipe.to_yaml())
    kept = recipe.training.identity()
    values["training"] = {key: value for key, value in values["training"].items() if key in kept and key not in _FREE}
    values["data"].pop("test", None)
    return dict(_flat(values))


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = prefix if key == "init_args" else f"{prefix}.{key}".lstrip(".")
        pairs += _flat(value, name) if isinstance(value, dict) else [(name, value)]
    return pairs


def _brief(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _doubts_about_model(claimed: "Recipe", model: "RISModel") -> list[str]:
    from maskris.data.preprocess import Preprocess

    described = yaml.safe_load(claimed.to_yaml())["model"]
    name = described["class_path"].rpartition(".")[2]
    if type(model).__name__ != name:
        return [f"other model ({type(model).__name__}, not {name})"]
    wanted = Preprocess.from_dict((described.get("init_args") or {}).get("preprocess") or {})
    ours, theirs = ((one.resize, *one.size) for one in (model.preprocess, wanted))
    if ours != theirs:
        return [f"other input ({ours[1]} x {ours[2]}, {ours[0]}; not {theirs[1]} x {theirs[2]}, {theirs[0]})"]
    return []
