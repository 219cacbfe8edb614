"""InfoNCE against its definition, and what it asks of a model."""

import math

import pytest
import torch
from strategies.toys import toy, toy_batch

from maskris.strategies.pair_contrast import PairContrast, contrast, pooled
from maskris.utils.rng import Random


def test_pooling_lies_between_mean_and_maximum():
    scores = torch.randn(2, 3, 4, 5)
    flat = scores.flatten(2)
    for sharpness in (0.1, 1.0, 10.0):
        value = pooled(scores, sharpness)
        assert (value >= flat.mean(2) - 1e-5).all()
        assert (value <= flat.amax(2) + 1e-5).all()
    torch.testing.assert_close(pooled(scores, 1e-3), flat.mean(2), atol=1e-2, rtol=0)
    torch.testing.assert_close(pooled(scores, 1e3), flat.amax(2), atol=1e-2, rtol=0)


def test_the_contrast_is_that_of_its_definition():
    pairs, owner = torch.randn(3, 5), [0, 0, 2, 1, 2]
    of_phrase = [-math.log(pairs[owner[n], n].exp() / pairs[:, n].exp().sum()) for n in range(5)]
    of_image = []
    for i in range(3):
        own = sum(pairs[i, n].exp() for n in range(5) if owner[n] == i)
        of_image.append(-math.log(own / pairs[i].exp().sum()))
    expected = (sum(of_phrase) / 5 + sum(of_image) / 3) / 2
    assert contrast(pairs, torch.tensor(owner)).item() == pytest.approx(expected, rel=1e-5)


def test_an_image_without_phrases_is_a_negative_alone():
    pairs = torch.randn(4, 3)
    loss = contrast(pairs, torch.tensor([0, 1, 3]))
    assert math.isfinite(loss)
    pairs[2] += 100  # a picture that fits every phrase better than their own
    assert contrast(pairs, torch.tensor([0, 1, 3])) > loss


def test_a_model_of_pairs_is_needed():
    with pytest.raises(ValueError, match="PairContrast needs the scores of 2 images with 4 expressions"):
        list(PairContrast().losses(toy(channels=1), toy_batch(), Random(0)))
    with pytest.raises(ValueError, match="sharpness must be positive, not 0"):
        PairContrast(sharpness=0)
