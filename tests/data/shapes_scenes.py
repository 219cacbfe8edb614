"""Scenes of the embedded data set as its writer makes them."""

from maskris.data.shapes.language import ALIKE
from maskris.data.shapes.scene import Scene, make_scene
from maskris.data.shapes.writer import ALIKE_OBJECTS, OBJECTS


def scene_of(variant: str, split: str, number: int, seed: int = 7) -> Scene:
    """One scene of a split of a variant."""
    alike = variant in ALIKE
    return make_scene(seed, split, number, (ALIKE_OBJECTS if alike else OBJECTS)[split], alike=alike)


def scenes_of(variant: str, number: int, splits: tuple[str, ...], seed: int = 7) -> list[Scene]:
    """The first scenes of each split."""
    return [scene_of(variant, split, i, seed) for split in splits for i in range(number)]
