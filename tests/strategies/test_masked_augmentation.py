import pytest
import torch
from strategies.toys import toy, toy_batch

from maskris.strategies.criteria.masks import MaskCriterion
from maskris.strategies.masked_augmentation import MaskedAugmentation
from maskris.strategies.masking import ImageMasking, TextMasking
from maskris.strategies.maskris import MaskRIS
from maskris.utils.rng import Random

IMAGE, TEXT = ImageMasking(0.5, 8), TextMasking(0.5)


def run(strategy, model, key=3):
    model.inputs.clear()
    return [loss.item() for loss in strategy.losses(model, toy_batch(), Random(key))]


def test_the_masked_input_learns_from_the_ground_truth_in_one_pass():
    model, batch = toy(), toy_batch()
    (loss,) = run(MaskedAugmentation(IMAGE, TEXT), model)
    ((images, ids),) = model.inputs
    masked = MaskRIS(IMAGE, TEXT).distort(model, batch, Random(3))  # the draws are MaskRIS's own
    assert torch.equal(images, masked.images)
    assert torch.equal(ids, masked.input_ids)
    assert loss == pytest.approx(MaskCriterion()(model, model(masked), batch).item())


def test_both_inputs_learn_from_the_ground_truth():
    model, batch = toy(), toy_batch()
    clean, masked = run(MaskedAugmentation(IMAGE, TEXT, clean_weight=0.25), model)
    assert clean == pytest.approx(0.25 * MaskCriterion()(model, model(batch), batch).item())
    (alone,) = run(MaskedAugmentation(IMAGE, TEXT), model)
    assert masked == pytest.approx(0.75 * alone)


def test_the_criterion_is_whatever_is_handed_in():
    class Four(MaskCriterion):
        def __call__(self, model, logits, batch):
            return logits.mean() * 0 + 4

    assert run(MaskedAugmentation(IMAGE, TEXT, 0.5, Four()), toy()) == [2, 2]


@pytest.mark.parametrize("weight", [-0.1, 1.0])
def test_a_weight_out_of_range_is_refused(weight):
    with pytest.raises(ValueError, match=r"clean_weight must lie in \[0, 1\).*maskris\.Supervised"):
        MaskedAugmentation(clean_weight=weight)
