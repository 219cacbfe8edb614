"""Batches of expressions, and what holds for expressions with every network."""

import torch
from torch import Tensor

from maskris.batch import Batch
from maskris.models.base import RISModel

EXPRESSIONS = ["the red circle", "left", "blue square of the left circle", "right"]


def batch_of(model: RISModel, images: Tensor, expressions: list[str], image_index: list[int], **pad: int) -> Batch:
    tokens = model.tokenizer(expressions, **pad)
    return Batch(images, tokens.input_ids, tokens.attention_mask, torch.tensor(image_index))


def check_many_expressions(model: RISModel, classes: int, *, tolerance: float = 1e-4, least: float = 1e-2) -> None:
    """Expressions about shared images have the logits of each alone; by `least`, words and images matter to them."""
    images, index = torch.randn(2, 3, 64, 64), [1, 0, 1, 1]
    together = model(batch_of(model, images, EXPRESSIONS, index))
    assert together.shape == (4, classes, 16, 16)
    for i, expression in enumerate(EXPRESSIONS):
        alone = model(batch_of(model, images[index[i] : index[i] + 1], [expression], [0]))
        torch.testing.assert_close(together[i : i + 1], alone, atol=tolerance, rtol=tolerance)
    assert (together[0] - together[3]).abs().max() > least, "the words must matter"
    swapped = model(batch_of(model, images.flip(0), EXPRESSIONS, index))
    assert (together - swapped).abs().amax((1, 2, 3)).min() > least, "the image must matter"
