"""Photo and masks move together, draws depend on their key alone, and what was cached stays as it was."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import BertTokenizer

from maskris.data import augment as module
from maskris.data.augment import (
    Augmentation,
    ColorJitter,
    CutOut,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    RandomResizedCrop,
    Rotation,
    Sample,
    apply_augmentations,
)
from maskris.data.dataset import ReferringDataset, training_loader
from maskris.data.preprocess import Preprocess
from maskris.data.sampler import TrainingBatches
from maskris.data.table import ReferringTable
from maskris.data.tokenizer import ExpressionTokenizer

ALL = [HorizontalFlip, RandomResizedCrop, Rotation, ColorJitter, Grayscale, GaussianBlur, CutOut]
SIZE = (24, 36)


def view_of(masks=None, soft=False, size=SIZE):
    """A photo whose first channel is 200 where the first referent is and 50 elsewhere, with noise in the others."""
    if masks is None:
        masks = torch.zeros(2, *size, dtype=torch.bool)
        masks[0, 4:12, 3:13] = True
        masks[1, 14:20, 20:33] = True
    noise = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    noise[0] = torch.where(masks[0], 200, 50)
    return Sample(noise, masks.float() * 0.75 if soft else masks, ("the left one", "right"))


def same(a, b):
    return torch.equal(a.image, b.image) and torch.equal(a.masks, b.masks) and a.expressions == b.expressions


def test_all_augmentations_are_tested():
    assert {one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Augmentation)} == {
        Augmentation, *ALL,
    }  # fmt: skip


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kind", ALL)
def test_kinds_of_numbers_stay_and_nothing_is_written_in_place(kind, soft):
    view = view_of(soft=soft)
    before = replace(view, image=view.image.clone(), masks=view.masks.clone())
    changed = 0
    for seed in range(5):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        made = apply_augmentations(view, [kind(p=1.0)], seed)
        assert torch.equal(torch.get_rng_state(), state), "draws from nobody's generator"
        assert same(view, before)
        assert type(made.image) is type(made.masks) is torch.Tensor
        assert (made.image.dtype, made.masks.dtype) == (torch.uint8, view.masks.dtype)
        assert (made.image.shape, made.masks.shape) == (view.image.shape, view.masks.shape)
        assert set(made.masks.unique().tolist()) <= set(view.masks.unique().tolist()), "no new values"
        assert same(made, apply_augmentations(view, [kind(p=1.0)], seed))
        changed += not torch.equal(made.image, view.image)
        assert made.masks.flatten(1).any(1).all()
    assert changed >= 4
    assert same(apply_augmentations(view, [kind(p=0.0)], 0), view)


@pytest.mark.parametrize("kind", [HorizontalFlip, RandomResizedCrop, Rotation])
def test_masks_move_with_the_photo(kind):
    for seed in range(20):
        made = apply_augmentations(view_of(), [kind(p=1.0)], "together", seed)
        agree = (made.image[0] > 125) == made.masks[0]
        # Interpolated pixels at the outline may fall to either side.
        assert agree.float().mean() > (0.999 if kind is HorizontalFlip else 0.93)


@pytest.mark.parametrize("kind", [ColorJitter, Grayscale, GaussianBlur, CutOut])
def test_others_leave_the_masks_alone(kind):
    view = view_of()
    made = apply_augmentations(view, [kind(p=1.0)], 0)
    assert torch.equal(made.masks, view.masks)
    assert made.expressions == view.expressions


def test_flip():
    view = view_of()
    made = apply_augmentations(view, [HorizontalFlip(p=1.0)], 0)
    assert torch.equal(made.image, view.image.flip(-1))
    assert torch.equal(made.masks, view.masks.flip(-1))
    assert made.expressions == ("the right one", "left")
    assert apply_augmentations(view, [HorizontalFlip(p=1.0, swap_words=False)], 0).expressions == view.expressions
    assert same(apply_augmentations(view, [HorizontalFlip(p=1.0)] * 2, 0), view)
    flips = sum(not same(apply_augmentations(view, [HorizontalFlip(p=0.25)], seed), view) for seed in range(400))
    assert 70 < flips < 130


@settings(max_examples=60)
@given(
    boxes=st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=3),
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted).map(tuple),
    seed=st.integers(0, 1000),
)
def test_a_crop_keeps_every_referent_in_whole(boxes, scale, seed):
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    for mask, (y, x, h, w) in zip(masks, boxes, strict=True):
        top, left = int(y * SIZE[0]), int(x * SIZE[1])
        mask[top : top + int(h * 12), left : left + int(w * 12)] = True
    # The photo numbers its own pixels, so that what is left of it can be read off.
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.uint8) for n in SIZE), indexing="ij")
    view = Sample(torch.stack([y, x, x]), masks, ("it",) * len(boxes))
    made = apply_augmentations(view, [RandomResizedCrop(scale=scale)], seed)
    for before, after in zip(masks, made.masks, strict=True):
        assert bool(before.any()) == bool(after.any())
        if before.any():
            assert (after.sum() / before.sum()) >= 0.99, "only ever enlarged"
    top, left = made.image[0].min(), made.image[1].min()
    inside = masks.any(0).nonzero()
    if len(inside):
        assert top <= inside[:, 0].min()
        assert left <= inside[:, 1].min()
        # Resizing blends the last row with the one before.
        assert made.image[0].max() + 1 >= inside[:, 0].max()
        assert made.image[1].max() + 1 >= inside[:, 1].max()


def test_windows_lie_anywhere_that_contains_the_referent():
    covered = torch.zeros(10, dtype=torch.bool)
    covered[4:6] = True
    windows = Counter(module._window(random.Random(seed), 5, covered) for seed in range(500))
    assert set(windows) == {(start, 5) for start in (1, 2, 3, 4)}
    assert min(windows.values()) > 80
    assert {module._window(random.Random(s), 1, covered) for s in range(9)} == {(4, 2)}, "a referent that needs more"
    nothing = torch.zeros(10, dtype=torch.bool)
    assert {module._window(random.Random(seed), 9, nothing)[0] for seed in range(50)} == {0, 1}
    assert module._window(random.Random(0), 99, covered) == (0, 10)


def test_a_referent_is_never_turned_out_of_the_photo():
    masks = torch.zeros(1, *SIZE, dtype=torch.bool)
    masks[0, :2, :2] = True
    view = view_of(masks)
    made = [apply_augmentations(view, [Rotation(degrees=60)], seed) for seed in range(40)]
    assert all(one.masks.any() for one in made)
    assert any(not torch.equal(one.image, view.image) for one in made)
    empty = view_of(torch.zeros(1, *SIZE, dtype=torch.bool))  # an expression without a target: nothing can be lost
    assert not torch.equal(apply_augmentations(empty, [Rotation(degrees=60)], 1).image, empty.image)


def test_cutout_hides_one_rectangle():
    view = replace(view_of(), image=torch.zeros(3, *SIZE, dtype=torch.uint8))
    for seed in range(10):
        hidden = apply_augmentations(view, [CutOut(p=1.0, scale=(0.1, 0.2), fill=(9, 8, 7))], seed).image
        assert hidden[:, hidden[0] > 0].unique(dim=1).flatten().tolist() == [9, 8, 7]
        assert 0.08 < (hidden[0] > 0).float().mean() < 0.22


def test_grayscale_has_no_color():
    image = apply_augmentations(view_of(), [Grayscale(p=1.0)], 0).image
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])


def test_one_more_augmentation_changes_no_draw_of_the_others():
    view = view_of()
    made = apply_augmentations(view, [CutOut(p=1.0), HorizontalFlip(p=1.0, swap_words=False)], 3)
    assert torch.equal(made.image, apply_augmentations(view, [CutOut(p=1.0)], 3).image.flip(-1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HorizontalFlip(p=2), r"HorizontalFlip: p must lie in \[0, 1\], not 2"),
        (lambda: CutOut(scale=(0.5, 2)), "CutOut: scale must be two positive numbers, rising, at most 1, not"),
        (lambda: RandomResizedCrop(ratio=(2, 1)), "RandomResizedCrop: ratio must be two positive numbers, rising, not"),
        (lambda: GaussianBlur(sigma=(0, 1)), "GaussianBlur: sigma must be"),
    ],
)
def test_wrong_values_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# In the data set


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        for stripe in range(3):
            mask = np.zeros((20, 30), dtype=bool)
            mask[5 * stripe : 5 * stripe + 4, 2 * number : 20] = True
            rows.append({"image": f"{number}.png", "mask": mask, "expressions": ["the left man", "man"]})
    return ReferringTable.from_rows(rows, folder)


@pytest.fixture(scope="module")
def tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "left", "right", "man"]
    return ExpressionTokenizer(BertTokenizer(vocab={word: i for i, word in enumerate(words)}), max_length=8)


SOME = (HorizontalFlip(), RandomResizedCrop(), ColorJitter(), Rotation(), GaussianBlur(), CutOut())


def dataset_of(table, tokenizer, augment=SOME, training=True, resize="stretch", **options):
    preprocess = Preprocess(*SIZE, resize=resize)
    return ReferringDataset(table, preprocess, tokenizer, training=training, augment=augment, **options)


def batches_of(dataset, workers=0, start=0, stop=6):
    """The batches of some steps."""
    loader = training_loader(dataset, TrainingBatches(len(dataset), 4, start_step=start), workers)
    return [batch for batch, _ in zip(loader, range(stop - start), strict=False)]


def equal(a, b):
    pairs = [(getattr(a, name), value) for name, value in vars(b).items()]
    return all(own is value is None or torch.equal(own, value) for own, value in pairs)


@pytest.mark.parametrize("k", [1, 2])
def test_draws_depend_on_seed_epoch_and_item_alone(table, tokenizer, k):
    whole = batches_of(dataset_of(table, tokenizer, referents_per_image=k))
    resumed = batches_of(dataset_of(table, tokenizer, referents_per_image=k), start=3)
    workers = batches_of(dataset_of(table, tokenizer, referents_per_image=k), workers=2)
    torch.manual_seed(7)
    cached = batches_of(dataset_of(table, tokenizer, referents_per_image=k, cache_images=True))
    for number, batch in enumerate(whole):
        assert equal(batch, workers[number]), "the number of workers is irrelevant"
        assert equal(batch, cached[number]), "so is the cache"
        if number >= 3:
            assert equal(batch, resumed[number - 3]), "a resumed run is the same run"
    plain = batches_of(dataset_of(table, tokenizer, (), referents_per_image=k))
    for a, b in zip(whole, plain, strict=True):
        assert torch.equal(a.expression_id, b.expression_id), "the same referents"
    assert not any(torch.equal(a.images, b.images) for a, b in zip(whole, plain, strict=True))
    dataset, other = dataset_of(table, tokenizer), dataset_of(table, tokenizer, seed=1)
    assert not torch.equal(dataset[0, 3].image, dataset[1, 3].image)
    assert not torch.equal(dataset[0, 3].image, dataset[0, 0].image), "the same photo, another item"
    assert not torch.equal(dataset[0, 3].image, other[0, 3].image)


def test_expressions_of_one_image_share_its_draw(table, tokenizer):
    for item in range(4):
        sample = dataset_of(table, tokenizer, [HorizontalFlip()], referents_per_image=4)[0, item]
        plain = dataset_of(table, tokenizer, (), referents_per_image=4)[0, item]
        assert torch.equal(sample.expression_id, plain.expression_id)
        if torch.equal(sample.image, plain.image):
            assert torch.equal(sample.masks, plain.masks)
            assert sample.expressions == plain.expressions
        else:
            assert torch.equal(sample.masks, plain.masks.flip(-1))
            assert sample.expressions == tuple(text.replace("left", "right") for text in plain.expressions)


def test_the_cache_keeps_what_was_loaded(table, tokenizer):
    dataset = dataset_of(table, tokenizer, cache_images=True, referents_per_image=3)
    dataset.preload()
    images = {key: image.clone() for key, image in dataset._cache["image"].items()}
    masks = {key: mask.clone() for key, mask in dataset._cache["mask"].items()}
    for epoch in range(5):
        _ = [dataset[epoch, item] for item in range(4)]
    assert images
    assert all(torch.equal(dataset._cache["image"][key], image) for key, image in images.items())
    assert all(torch.equal(dataset._cache["mask"][key], mask) for key, mask in masks.items())


def test_a_letterbox_with_soft_outlines(table, tokenizer):
    sample = dataset_of(table, tokenizer, resize="letterbox")[0, 0]
    assert sample.masks.is_floating_point()
    assert 0 <= sample.masks.min() <= sample.masks.max() <= 1


def test_augmentations_are_for_training(table, tokenizer):
    with pytest.raises(ValueError, match="Augmentations are for training"):
        dataset_of(table, tokenizer, training=False)
    with pytest.raises(ValueError, match="move the masks with the image"):
        dataset_of(table, tokenizer, masks=False)
