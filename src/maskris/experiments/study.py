"""`Study`: which variants of a recipe are trained and compared, read from YAML or made from ``--vary``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from maskris.experiments.recipe import SECTIONS, SHIPPED, Recipe, RecipeError, merge, read_recipe, read_yaml, shipped
from maskris.models.folder import may_be_model
from maskris.utils.files import atomic_file

_VARIANT_KEYS = {"recipe", "paper", "reference", "same_compute", *SECTIONS}


class StudyError(ValueError):
    """A study that does not exist or does not hold what it must; the message says where and what."""


@dataclass(frozen=True)
class Variant:
    """One thing to train.

    Attributes:
        name: For tables and folders.
        recipe: The whole recipe, as YAML would give it.
        overrides: Command-line words on top, such as ``--strategy.image.ratio=0.5``.
        paper: What the paper reports for it, in per cent.
        reference: The variant that it is compared with, if that isn't the study's baseline.
        same_compute: The variant that costs as much to train, for a second comparison.
    """

    name: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    paper: float | None = None
    reference: str | None = None
    same_compute: str | None = None

    @property
    def folder(self) -> str:
        """The name as a folder: letters, digits and ``.=+-`` stay."""
        return "".join(c if c.isalnum() or c in ".=+-" else "-" for c in self.name)


@dataclass(frozen=True)
class Study:
    """What is compared.

    Attributes:
        title: One line for people.
        variants: In the order of the table.
        baseline: Name of the variant that all others are compared with.
        about: The question of the study, as Markdown.
        seeds: Each variant is trained once with each.
        scenes: Scenes of the embedded data set to train on, where no other data is given.
        occlusion: Shares of the image that are hidden at evaluation, in whole per cents; the first is 0, the clean
            image.
        paper: Which table of the paper the numbers beside ours come from, and their metric.

    Raises:
        StudyError: If a name or a seed occurs twice, the baseline or a reference is none of the variants, or the shares
            are not as they must be.
    """

    title: str
    variants: tuple[Variant, ...]
    baseline: str
    about: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    scenes: int = 2000
    occlusion: tuple[float, ...] = (0.0, 0.25, 0.5)
    paper: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values; a `StudyError` names what can't be compared."""
        names, folders = [one.name for one in self.variants], [one.folder for one in self.variants]
        if len(set(folders)) < len(folders):
            raise StudyError(f"{self.title}: two variants have the same name, among {', '.join(folders)}")
        compared = [name for one in self.variants for name in (one.reference, one.same_compute) if name is not None]
        for name in (self.baseline, *compared):
            if name not in names:
                raise StudyError(f"{self.title}: the baseline {name!r} is none of the variants {', '.join(names)}")
        seeds, shares = list(self.seeds), list(self.occlusion)
        if not seeds or len(set(seeds)) < len(seeds):
            raise StudyError(f"{self.title}: give each seed once, not {seeds}")
        if self.scenes < 1:
            raise StudyError(f"{self.title}: scenes must be at least 1, not {self.scenes}")
        if wrong := [share for share in shares if not 0 <= share < 1]:
            raise StudyError(f"{self.title}: a share of the image lies between 0 and 1, not {wrong}")
        # Files and tables name shares in per cent, and everything is compared on the clean image.
        if wrong := [share for share in shares if abs(100 * share - round(100 * share)) > 1e-6]:
            raise StudyError(f"{self.title}: a share is in whole per cents, such as 0.25, not {wrong}")
        if shares[:1] != [0] or len(set(shares)) < len(shares):
            raise StudyError(f"{self.title}: occlusion starts with 0 and holds each share once, unlike {shares}")

    def variant(self, name: str) -> Variant:
        """The variant of a name."""
        return next(variant for variant in self.variants if variant.name == name)

    def reference(self, name: str) -> str:
        """The variant that one is compared with."""
        return self.variant(name).reference or self.baseline

    def paper_difference(self, name: str) -> float | None:
        """What the paper reports as the difference to the reference, in points; ``None`` where it has none."""
        own, other = self.variant(name), self.variant(self.reference(name))
        if own.paper is None or other.paper is None or own.name == other.name:
            return None
        return own.paper - other.paper


def shipped_studies() -> list[str]:
    """The names of the shipped studies."""
    return shipped("studies")


def plan_study(name: str, vary: Sequence[str] | None = None) -> Study:
    """The study of a name.

    Args:
        name: A shipped study, a YAML file that describes one, or a recipe to vary.
        vary: For a recipe, see `vary_recipe`.

    Raises:
        StudyError: If there is nothing of that name, or nothing to vary.
        RecipeError: If a recipe does not exist.
    """
    file = SHIPPED / "studies" / f"{name}.yaml" if name in shipped_studies() else Path(name)
    if file.suffix in (".yaml", ".yml") and file.is_file() and "variants" in read_yaml(file):
        if vary is not None:
            raise StudyError(f"{name!r} is a study, which says what varies; --vary takes a recipe")
        return read_study(file)
    if vary is not None:
        return vary_recipe(name, vary)
    if name not in shipped() and not Path(name).is_file():
        close = get_close_matches(name, [*shipped_studies(), *shipped()], n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"shipped are {', '.join(shipped_studies())}"
        raise StudyError(f"There is no study {name!r}, neither shipped nor as a YAML file; {hint}")
    raise StudyError(f"{name!r} is no study, so --vary must say what varies, such as --vary training.lr=5e-5,1e-4")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_text(value: Any) -> bool:
    return not _is_mapping(value)  # YAML reads the name 0.5 as a number


_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "title": (_is_text, "text"),
    "about": (_is_text, "text"),
    "recipe": (lambda value: isinstance(value, str), "the name of a recipe or a YAML file"),
    "common": (_is_mapping, "keys of the recipe with their values"),
    "baseline": (_is_text, "the name of a variant"),
    "seeds": (lambda value: isinstance(value, list) and all(map(_is_whole, value)), "a list such as [0, 1, 2]"),
    "scenes": (lambda value: _is_whole(value) and value > 0, "a number of scenes"),
    "occlusion": (lambda value: isinstance(value, list) and all(map(_is_number, value)), "a list such as [0, 0.25]"),
    "paper": (_is_mapping, 'such as {table: "Table 2, RefCOCO val", metric: oIoU}'),
    "variants": (lambda value: _is_mapping(value) and bool(value), "variants by name, each with what it changes"),
}
"""The keys of a study file: what each may hold, and the words for it."""


def read_study(path: Path) -> Study:
    """Read a study.

    Raises:
        StudyError: If a key is missing, unknown, or holds something of another kind.
        RecipeError: If a recipe that it names does not exist.
    """
    values = read_yaml(path)
    if unknown := sorted(set(values) - set(_KEYS)):
        raise StudyError(f"{path}: a study has no key {', '.join(unknown)}; it has {', '.join(sorted(_KEYS))}")
    if missing := [key for key in ("title", "recipe", "baseline", "variants") if key not in values]:
        raise StudyError(f"{path}: {', '.join(missing)} is missing")
    for key, value in values.items():
        fits, words = _KEYS[key]
        if not fits(value):
            raise StudyError(f"{path}: {key} must be {words}, not {value!r}")
    common, recipe = values.pop("common", {}), values.pop("recipe")
    if unknown := sorted(set(common) - set(SECTIONS)):
        raise StudyError(f"{path}: common has no key {', '.join(unknown)}; it may have {', '.join(sorted(SECTIONS))}")
    variants = [
        _variant(str(name), changes or {}, recipe, common, f"{path}: the variant {name!r}")
        for name, changes in values.pop("variants").items()
    ]
    values |= {key: str(values[key]) for key in ("title", "about", "baseline") if key in values}
    values |= {key: tuple(values[key]) for key in ("seeds", "occlusion") if key in values}
    return Study(variants=tuple(variants), **values)


def _variant(name: str, changes: Any, recipe: str, common: Mapping[str, Any], where: str) -> Variant:
    if not _is_mapping(changes):
        raise StudyError(f"{where} must say which keys change, not {changes!r}")
    if unknown := sorted(set(changes) - _VARIANT_KEYS):
        raise StudyError(f"{where} has no key {', '.join(unknown)}; it may have {', '.join(sorted(_VARIANT_KEYS))}")
    paper = changes.get("paper")
    if not (paper is None or _is_number(paper)):
        raise StudyError(f"{where} must have a number as the paper's, not {paper!r}")
    values = merge(read_recipe(str(changes.get("recipe", recipe))), common)
    values = merge(values, {key: value for key, value in changes.items() if key in SECTIONS})
    compared = {key: str(changes[key]) for key in ("reference", "same_compute") if key in changes}
    return Variant(name, values, (), paper, **compared)


def vary_recipe(recipe: str, vary: Sequence[str]) -> Study:
    """The recipe as it is, and with every combination of the given values.

    Args:
        recipe: Name of a shipped recipe, or a YAML file.
        vary: Such as ``"strategy.image.ratio=0.25,0.5"``; lists in brackets are not cut at their commas.

    Raises:
        StudyError: If one of them names no key or no value.
    """
    values = read_recipe(recipe)
    axes = []
    for word in vary:
        key, equals, listed = word.removeprefix("--").partition("=")
        if not equals or not listed or key.split(".")[0] not in SECTIONS:
            raise StudyError(f"--vary takes KEY=VALUE,VALUE… with a key of the recipe, not {word!r}")
        axes.append([(key, value) for value in split_values(listed)])
    variants = [Variant(recipe_name := Path(recipe).stem, values)]
    for chosen in product(*axes):
        name = ", ".join(f"{key.split('.', 1)[-1]}={value}" for key, value in chosen)
        variants.append(Variant(name, values, tuple(f"--{key}={value}" for key, value in chosen)))
    return Study(title=f"{recipe_name}: {', '.join(vary)}", variants=tuple(variants), baseline=recipe_name)


def split_values(text: str) -> list[str]:
    """``"a,[1,2],b"`` as ``["a", "[1,2]", "b"]``."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def check_variant(variant: Variant, file: Path, overrides: Sequence[str]) -> Recipe:
    """Write a variant's recipe to `file` and read it back, so that mistakes are found before anything is trained.

    Raises:
        StudyError: If the recipe is refused, or the model to start from is not there; names the variant.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    text = f"# {variant.name}\n{yaml.safe_dump(dict(variant.recipe), sort_keys=False)}"
    with atomic_file(file) as written:
        written.write(text)
    try:
        recipe = Recipe(file, [*variant.overrides, *overrides])
    except RecipeError as error:
        raise StudyError(f"Variant {variant.name!r}: {error}") from error
    start = recipe.training.init_from
    if start is not None and not may_be_model(start):
        raise StudyError(f"Variant {variant.name!r}: there is no folder {start} with a model to start from")
    return recipe
