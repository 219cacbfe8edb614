"""AML: which patches are hidden, against a literal version, and that nothing else is."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.toys import CLS, PAD, SEP, UNK, toy, toy_batch

from maskris.batch import Batch
from maskris.models.base import RISModel
from maskris.strategies.aml import AML, choose, overlap
from maskris.strategies.criteria.masks import MaskCriterion
from maskris.strategies.masking import patch_grid
from maskris.utils.rng import Random


def literal_alignment(strategy, model, batch):
    """Word by word, cell by cell, pixel by pixel; one image for each expression."""
    with torch.no_grad():
        patches, words = model.eval().token_features(batch)
    model.train()
    height, width = batch.images.shape[-2:]
    rows, columns = patch_grid(height, width, strategy.patch_size)
    best = torch.zeros(len(batch.images), rows * columns)
    for n, image in enumerate(batch.image_index.tolist()):
        ids = batch.input_ids[n].tolist()
        chosen = [i for i, token in enumerate(ids) if token not in (PAD, UNK, CLS, SEP, 4)]
        chosen = chosen or [i for i in range(len(ids)) if batch.attention_mask[n, i]]
        scores = torch.zeros(patches.shape[1:3])
        for y in range(scores.shape[0]):
            for x in range(scores.shape[1]):
                cosines = [torch.cosine_similarity(patches[n, y, x], words[n, i], dim=0) for i in chosen]
                exponentials = [math.exp(cosine / strategy.temperature) for cosine in cosines]
                scores[y, x] = max(exponentials) / sum(exponentials)
        # Every pixel has the score of its cell; a patch has the mean of its pixels. Sizes are multiples of the cells.
        pixels = scores.repeat_interleave(height // scores.shape[0], 0).repeat_interleave(width // scores.shape[1], 1)
        for r in range(rows):
            for c in range(columns):
                p = strategy.patch_size
                score = pixels[r * p : (r + 1) * p, c * p : (c + 1) * p].mean()
                best[image, r * columns + c] = max(best[image, r * columns + c], score)
    return best


@pytest.mark.parametrize("patch_size", [4, 8, 16, 12, 40])
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_alignment_is_the_literal_one(size, patch_size):
    strategy, model, batch = AML(patch_size=patch_size, temperature=0.3), toy(), toy_batch(3, 5, size)
    batch.input_ids[1, 1:4] = torch.tensor([7, UNK, 9])
    batch.input_ids[2, 1:4] = UNK  # no word is left
    ours, expected = strategy.alignment(model, batch), literal_alignment(strategy, model, batch)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_padding_and_special_tokens_do_not_count():
    strategy, model, batch = AML(patch_size=8), toy(), toy_batch()
    expected = strategy.alignment(model, batch)
    with torch.no_grad():
        model.features.weight[:5] = torch.randn(5, 3) * 100
    assert torch.equal(strategy.alignment(model, batch), expected)
    longer = replace(
        batch,
        input_ids=torch.cat([batch.input_ids, torch.full((4, 3), 7)], dim=1),  # tokens under the mask
        attention_mask=torch.cat([batch.attention_mask, torch.zeros(4, 3, dtype=torch.int64)], dim=1),
    )
    torch.testing.assert_close(strategy.alignment(model, longer), expected)


@pytest.mark.parametrize(("ratio", "threshold"), [(0.25, 0.45), (0.25, 0.6), (0.6, 0.5), (1.0, 0.5), (0.0, 0.5)])
def test_exactly_a_share_of_the_poorly_aligned_patches_vanishes(ratio, threshold):
    strategy = AML(ratio, threshold, patch_size=8, temperature=0.5)
    model, batch = toy(), toy_batch(3, 3, (64, 64))
    poor = (strategy.alignment(model, batch) < threshold).view(3, 8, 8)
    counts = poor.flatten(1).sum(1).tolist()
    assert 0 < min(counts) <= max(counts) < 64
    images = strategy.mask(model, batch, Random(0)).images
    hidden = (images == 0).all(1, keepdim=True).expand_as(images)
    assert torch.equal(images[~hidden], batch.images[~hidden])
    cells = hidden[:, 0, ::8, ::8]
    assert torch.equal(cells.repeat_interleave(8, 1).repeat_interleave(8, 2), hidden[:, 0])
    assert not (cells & ~poor).any()
    assert cells.flatten(1).sum(1).tolist() == [int(count * ratio) for count in counts]


def test_a_patch_is_poorly_aligned_if_it_is_so_for_every_expression():
    strategy, model, batch = AML(patch_size=8), toy(), toy_batch(1, 3)
    alone = []
    for n in range(3):
        only = Batch(batch.images, batch.input_ids[n : n + 1], batch.attention_mask[n : n + 1], torch.tensor([0]))
        alone.append(strategy.alignment(model, only))
    torch.testing.assert_close(strategy.alignment(model, batch), torch.stack(alone).amax(0))


def test_both_passes_learn_from_the_ground_truth():
    strategy, model, batch = AML(patch_size=8, threshold=1.0, ratio=0.5), toy(), toy_batch()
    clean, masked = (loss.item() for loss in strategy.losses(model, batch, Random(2)))
    distorted = strategy.mask(model, batch, Random(2))
    assert distorted.input_ids is batch.input_ids
    assert clean == pytest.approx(0.5 * MaskCriterion()(model, model(batch), batch).item())
    assert masked == pytest.approx(0.5 * MaskCriterion()(model, model(distorted), batch).item())
    assert masked != pytest.approx(clean)


def test_the_projection_is_fixed_and_keeps_directions():
    strategy = AML(projection=2000)
    visual, words = torch.randn(5, 40), torch.randn(5, 30)
    a, b = strategy.project(visual, words)
    assert a.shape == b.shape == (5, 2000)
    again = AML(projection=2000).project(visual, words)
    assert torch.equal(a, again[0])
    assert torch.equal(b, again[1])
    assert not torch.equal(a, AML(projection=2000, seed=1).project(visual, words)[0])
    before, after = (torch.nn.functional.normalize(x, dim=-1) for x in (visual, a))
    # Johnson-Lindenstrauss: the error of a cosine is about 1 / sqrt(2000) = 0.022.
    assert (before @ before.T - after @ after.T).abs().max() < 0.1


def test_equal_widths_are_compared_as_they_are():
    visual, words = torch.randn(5, 30), torch.randn(5, 30)
    a, b = AML().project(visual, words)
    assert a is visual
    assert b is words


def test_features_of_different_widths():
    model = toy(width=7)
    list(AML(patch_size=8).losses(model, toy_batch(), Random(0)))
    alignment = AML(patch_size=8).alignment(model, toy_batch())
    assert 0 < alignment.min() <= alignment.max() <= 1


def test_a_model_without_features_is_named(monkeypatch):
    monkeypatch.setattr("strategies.toys.Toy.token_features", RISModel.token_features)
    with pytest.raises(NotImplementedError, match="Toy does not define token_features"):
        list(AML().losses(toy(), toy_batch(), Random(0)))


@given(
    images=st.integers(1, 3),
    patches=st.integers(1, 30),
    ratio=st.floats(0, 1),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_choice_of_allowed_patches(images, patches, ratio, share, seed):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(images, patches, generator=generator)
    allowed = torch.rand(images, patches, generator=generator) < share
    chosen = choose(noise, allowed, ratio)
    assert not (chosen & ~allowed).any()
    for i in range(images):
        count = int(int(allowed[i].sum()) * ratio)
        smallest = sorted(noise[i][allowed[i]].tolist())[:count]
        assert sorted(noise[i][chosen[i]].tolist()) == smallest


@given(size=st.integers(1, 60), cells=st.integers(1, 60), patch_size=st.integers(1, 70))
def test_overlap_is_the_mean_over_fine_pixels(size, cells, patch_size):
    patches = math.ceil(size / patch_size)
    values = torch.randn(cells, generator=torch.Generator().manual_seed(0))
    ours = overlap(size, cells, patch_size, patches) @ values
    fine = values.repeat_interleave(size)  # `cells` fine pixels in each pixel
    expected = [fine[i * patch_size * cells : (i + 1) * patch_size * cells].mean() for i in range(patches)]
    torch.testing.assert_close(ours, torch.stack(expected), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ratio": 1.1}, "ratio"),
        ({"threshold": -1}, "threshold"),
        ({"clean_weight": 2}, "clean_weight"),
        ({"temperature": 0}, "temperature"),
        ({"patch_size": 0}, "patch_size"),
        ({"projection": 0}, "projection"),
    ],
)
def test_impossible_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        AML(**values)
