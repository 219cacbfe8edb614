"""Masking: the official draws replayed, properties for all sizes and ratios, and the shapes of image masks."""

import random

import pytest
import torch
from golden import reference
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer, CLIPTokenizer

from maskris.data.tokenizer import ExpressionTokenizer
from maskris.strategies.masking import (
    BLOCKS,
    ORDERS,
    ImageMasking,
    TextMasking,
    fill_patches,
    patch_grid,
    removed_patches,
)

SPECIAL = [0, 100, 101, 102, 103]


def test_number_of_kept_patches_is_the_official_one(shared):
    for case in reference(shared, "extras.json")["image_mask.kept"]:
        removed = removed_patches(torch.rand(3, case["L"]), case["ratio"])
        assert (~removed).sum(1).tolist() == [case["kept"]] * 3, case


@pytest.mark.parametrize("ratio", [0.3, 0.75])
def test_images_are_masked_as_officially(shared, ratio):
    extras = reference(shared, "extras.safetensors")
    removed = removed_patches(extras[f"image_mask.noise_{ratio}"], ratio)
    masked = fill_patches(extras["image_mask.image"], removed, 32)
    assert torch.equal(masked, extras[f"image_mask.out_{ratio}"])


def test_removed_patches_of_the_golden_case(shared):
    case = reference(shared, "tiny_case1.safetensors")
    assert torch.equal(removed_patches(case["image_mask_noise"], 0.75), case["image_mask_removed"].bool())


def replay(ids, ratio, mask, rand, seed, vocabulary):
    """The official draws of one sentence, in their order, from Python's own generator."""
    generator = random.Random(seed)
    rows = []
    for row in ids.tolist():
        choice, tokens = [], []
        for token in row:
            u = generator.random()
            draw = u < ratio and token not in SPECIAL and mask <= u / ratio < mask + rand
            choice.append(u)
            tokens.append(generator.randrange(vocabulary) if draw else 0)
        rows.append((choice, tokens))
    return torch.tensor([c for c, _ in rows], dtype=torch.float64), torch.tensor([t for _, t in rows])


def test_words_are_masked_as_officially(shared):
    tensors = reference(shared, "extras.safetensors")
    for i, run in enumerate(reference(shared, "extras.json")["text_mask.runs"]):
        mask, rand = run["sub"]
        masking = TextMasking(run["ratio"], mask, rand)
        ids = tensors["text_mask.ids"]
        choice, tokens = replay(ids, run["ratio"], mask, rand, run["python_random_seed"], run["vocab_size"])
        ours = masking.apply(ids, choice, tokens, torch.tensor(SPECIAL), 103)
        assert torch.equal(ours, tensors[f"text_mask.out{i}"]), run


@pytest.fixture(scope="module")
def tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(995))]
    return ExpressionTokenizer(BertTokenizer(vocab={word: i for i, word in enumerate(words)}))


@given(words=st.integers(0, 12), seed=st.integers(0, 99))
def test_words_of_a_sentence_without_its_end_are_masked_alike(tokenizer, words, seed):
    """Cut as published, the last token of a long sentence is a word like any other."""
    published = ExpressionTokenizer(tokenizer.tokenizer, 8, keep_end_token=False)
    tokens = published([" ".join(["w7"] * words), "w7"], pad_to=8)
    masked = TextMasking(1.0, 1.0, 0.0)(tokens.input_ids, published, torch.Generator().manual_seed(seed))
    assert torch.equal(masked, torch.where(tokens.input_ids == 12, 4, tokens.input_ids))
    assert masked[0].tolist() == ([2] + [4] * words + [3] + [0] * 6)[:8]


def test_shares_of_masked_and_random_words(shared, tokenizer):
    ids = torch.randint(5, 1000, (4000, 25), generator=torch.Generator().manual_seed(0))
    out = TextMasking()(ids, tokenizer, torch.Generator().manual_seed(1))
    masked, changed = out == 4, out != ids
    # 100,000 draws: five standard deviations of a share of 12 % are 0.5 %.
    assert masked.float().mean().item() == pytest.approx(0.12, abs=0.005)
    assert (changed & ~masked).float().mean().item() == pytest.approx(0.015, abs=0.002)
    official = reference(shared, "extras.json")["text_mask.stats_on_60000_tokens"]
    assert masked.float().mean().item() == pytest.approx(official["mask_fraction"], abs=0.007)


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    patch=st.integers(1, 40),
    ratio=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_every_size_and_ratio(height, width, patch, ratio, seed):
    images = torch.full((2, 3, height, width), 2.0)
    masked = ImageMasking(ratio, patch)(images, torch.Generator().manual_seed(seed))
    rows, columns = patch_grid(height, width, patch)
    kept = int(rows * columns * (1 - ratio))
    assert images.min() == 2  # the input is untouched
    assert set(masked.unique().tolist()) <= {0.0, 2.0}
    assert torch.equal(masked[:, 0], masked[:, 1])
    corners = masked[:, 0, ::patch, ::patch]  # one pixel of every patch, the cut ones included
    assert (corners != 0).flatten(1).sum(1).tolist() == [kept, kept]
    for y in range(0, height, patch):
        for x in range(0, width, patch):
            cell = masked[:, 0, y : y + patch, x : x + patch].flatten(1)
            assert torch.equal(cell.amin(1), cell.amax(1))


def test_ratio_zero_and_one_are_well_defined(tokenizer):
    images, ids = torch.randn(2, 3, 50, 70), torch.tensor([[2, 7, 8, 3, 0], [2, 9, 3, 0, 0]])
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(ImageMasking(0.0)(images, generator), images)
    assert ImageMasking(1.0)(images, generator).abs().sum() == 0
    assert torch.equal(TextMasking(0.0)(ids, tokenizer, generator), ids)
    all_masked = TextMasking(1.0, 1.0, 0.0)(ids, tokenizer, generator)
    assert all_masked.tolist() == [[2, 4, 4, 3, 0], [2, 4, 3, 0, 0]]


def test_images_of_a_batch_are_masked_independently():
    masked = ImageMasking(0.5, 8)(torch.ones(8, 1, 64, 64), torch.Generator().manual_seed(0))
    assert len({tuple(image.flatten().tolist()) for image in masked}) == 8


@given(ratio=st.floats(0, 1), mask=st.floats(0, 1), seed=st.integers(0, 99))
def test_special_tokens_never_change(tokenizer, ratio, mask, seed):
    ids = torch.tensor([[2, 1, 700, 4, 3, 0, 0], [2, 900, 5, 6, 7, 8, 3]])
    out = TextMasking(ratio, mask, 1 - mask)(ids, tokenizer, torch.Generator().manual_seed(seed))
    special = ids < 5
    assert torch.equal(out[special], ids[special])


@pytest.mark.parametrize("values", [{"ratio": 1.5}, {"ratio": -0.1}, {"mask": 0.8, "random": 0.3}, {"mask": -1.0}])
def test_impossible_shares_are_refused(values):
    with pytest.raises(ValueError, match=r"whole|\[0, 1\]"):
        TextMasking(**values)


@given(fill=st.floats(-5, 5, width=32), seed=st.integers(0, 99))
def test_another_fill_blanks_the_same_pixels(fill, seed):
    images = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(seed)) + 10
    usual = ImageMasking(0.5, 8)(images, torch.Generator().manual_seed(seed))
    other = ImageMasking(0.5, 8, fill=fill)(images, torch.Generator().manual_seed(seed))
    assert torch.equal(other, torch.where(usual == 0, torch.tensor(fill), images))


@pytest.mark.parametrize("values", [{"ratio": 1.01}, {"patch_size": 0}, {"fill": float("nan")}])
def test_impossible_patches_are_refused(values):
    with pytest.raises(ValueError, match=r"\[0, 1\]|at least 1|finite"):
        ImageMasking(**values)


def test_a_tokenizer_without_mask_token_says_what_to_do():
    tokens = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "a": 3}
    clip = ExpressionTokenizer(CLIPTokenizer(vocab=tokens, merges=[]))
    with pytest.raises(ValueError, match="no mask token"):
        TextMasking()(torch.tensor([[0, 2, 1]]), clip, torch.Generator())
    out = TextMasking(1.0, 0.0, 1.0)(torch.tensor([[0, 2, 1]]), clip, torch.Generator().manual_seed(1))
    assert out[0, 0] == 0
    assert out[0, 2] == 1


RATIOS = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1))


def removed(sampling, rows, columns, ratio, seed=0, images=1):
    order = ORDERS[sampling](images, rows, columns, ratio, torch.Generator().manual_seed(seed))
    assert order.shape == (images, rows * columns)
    return removed_patches(order, ratio).view(images, rows, columns)


@given(
    sampling=st.sampled_from(list(ORDERS)),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    patch=st.integers(1, 40),
    ratio=RATIOS,
    seed=st.integers(0, 99),
)
def test_the_share_is_exact_for_every_shape_and_size(sampling, height, width, patch, ratio, seed):
    images = torch.full((2, 3, height, width), 2.0)
    masked = ImageMasking(ratio, patch, sampling)(images, torch.Generator().manual_seed(seed))
    rows, columns = patch_grid(height, width, patch)
    kept = int(rows * columns * (1 - ratio))
    corners = masked[:, 0, ::patch, ::patch]  # one pixel of every patch, the cut ones included
    assert (corners != 0).flatten(1).sum(1).tolist() == [kept, kept]
    assert torch.equal(masked, ImageMasking(ratio, patch, sampling)(images, torch.Generator().manual_seed(seed)))
    assert images.min() == 2


@pytest.mark.parametrize("sampling", ORDERS)
def test_images_of_a_batch_are_masked_independently_in_every_shape(sampling):
    masks = removed(sampling, 15, 14, 0.4, images=16)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 8


def test_random_masks_are_those_of_one_uniform_draw():
    expected = torch.rand(3, 20, generator=torch.Generator().manual_seed(4))
    assert torch.equal(ORDERS["random"](3, 4, 5, 0.7, torch.Generator().manual_seed(4)), expected)


@given(rows=st.integers(1, 10), columns=st.integers(1, 10), seed=st.integers(0, 99))
def test_a_grid_keeps_one_patch_of_four(rows, columns, seed):
    kept = ~removed("grid", 2 * rows, 2 * columns, 0.75, seed)[0]
    y, x = kept.nonzero().T
    assert len(y) == rows * columns
    assert len(set((y % 2).tolist())) == len(set((x % 2).tolist())) == 1


@given(rows=st.integers(1, 10), columns=st.integers(1, 10), seed=st.integers(0, 99))
def test_a_grid_of_one_half_is_a_checkerboard(rows, columns, seed):
    kept = ~removed("grid", 2 * rows, 2 * columns, 0.5, seed)[0]
    y, x = kept.nonzero().T
    assert len(set(((y + x) % 2).tolist())) == 1


@given(rows=st.integers(1, 16), columns=st.integers(1, 16), ratio=RATIOS, seed=st.integers(0, 99))
def test_cutout_is_one_square(rows, columns, ratio, seed):
    mask = removed("cutout", rows, columns, ratio, seed)[0]
    y, x = mask.nonzero().T
    if len(y) == 0:
        return
    height, width = (int(v.max() - v.min()) + 1 for v in (y, x))
    # The frame around it holds nothing else but a part of its outermost ring.
    assert height * width - len(y) < 2 * (height + width)
    inner = mask[y.min() + 1 : y.max(), x.min() + 1 : x.max()]
    assert inner.all()
    if y.min() > 0 and y.max() < rows - 1 and x.min() > 0 and x.max() < columns - 1:  # not cut by a border
        assert abs(height - width) <= 1


def test_cutout_comes_to_every_corner():
    masks = removed("cutout", 8, 8, 0.25, images=400)
    share = masks.float().mean(0)
    assert share.min() > 0.1
    assert masks[:, 0, 0].any()


@given(rows=st.integers(2, 16), columns=st.integers(2, 16), ratio=st.floats(0.1, 1), seed=st.integers(0, 99))
def test_blocks_are_rectangles(rows, columns, ratio, seed):
    order = ORDERS["block"](1, rows, columns, ratio, torch.Generator().manual_seed(seed)).view(rows, columns)
    first = (order == order.max()).nonzero()  # the first block is seen whole
    height, width = (first.amax(0) - first.amin(0) + 1).tolist()
    assert len(first) == height * width
    assert 1 <= height * width <= max(0.08, ratio) * rows * columns + height + width + 1  # sides are rounded


def test_what_is_hidden_hangs_together_in_blocks_more_than_at_random():
    def neighbors(sampling):
        masks = removed(sampling, 14, 14, 0.5, images=64)
        return (masks[:, 1:] == masks[:, :-1]).float().mean().item()

    assert neighbors("grid") == 0
    assert neighbors("random") == pytest.approx(0.5, abs=0.03)
    assert neighbors("block") > 0.8
    assert neighbors("cutout") > 0.9


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75, 0.95])
@pytest.mark.parametrize("side", [2, 14, 56])
def test_there_are_enough_blocks_for_every_ratio(side, ratio):
    order = ORDERS["block"](100, side, side, ratio, torch.Generator().manual_seed(0))
    covered = (order > -BLOCKS).sum(1)
    assert (covered >= side * side - int(side * side * (1 - ratio))).all()


def test_an_unknown_shape_is_named():
    with pytest.raises(ValueError, match="sampling must be one of random, grid, block, cutout, not 'round'"):
        ImageMasking(sampling="round")
