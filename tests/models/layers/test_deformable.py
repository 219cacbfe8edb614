"""Deformable attention: sampling by hand, gradients, initial pattern."""

import math

import pytest
import torch
from torch import Tensor

from maskris.models.layers.deformable import DeformableAttention, _softmax, pixel_centers, sample_levels
from maskris.models.layers.sampling import Shapes

SHAPES = [(2, 3), (4, 5)]


def sample(values: Tensor, locations: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
    """With locations (x, y) in [0, 1] of the level's extent, as the paper has them."""
    x, y = (locations * locations.new_tensor(shapes).flip(1)[:, None] - 0.5).unbind(-1)
    return sample_levels(values, x, y, weights, shapes)


def test_samples_at_pixel_centers_are_the_pixels() -> None:
    values = torch.arange(6.0).reshape(1, 6, 1)
    locations = pixel_centers([(2, 3)]).reshape(1, 6, 1, 1, 1, 2)
    out = sample(values, locations, torch.ones(1, 6, 1, 1, 1), [(2, 3)])
    torch.testing.assert_close(out[0, :, 0], torch.arange(6.0))


def test_samples_between_pixels_are_bilinear_and_zero_outside() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1)
    points = torch.tensor([[0.5, 0.5], [0.5, 0.25], [0.0, 0.25], [0.25, 1.0], [-1.0, 0.5], [0.5, 2.0]])
    out = sample(values, points.reshape(1, 6, 1, 1, 1, 2), torch.ones(1, 6, 1, 1, 1), [(2, 2)])
    assert out[0, :, 0].tolist() == [2.5, 1.5, 0.5, 1.5, 0.0, 0.0]


def test_every_head_reads_its_own_channels_and_every_weight_counts() -> None:
    values = torch.zeros(1, 26, 4)
    values[0, :6, :2], values[0, 6:, 2:] = 1.0, 10.0  # the first head sees level 0 only, the second level 1 only
    locations = torch.full((1, 1, 2, 2, 3, 2), 0.5)
    weights = torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.15, 0.25]]).expand(1, 1, 2, 2, 3)
    out = sample(values, locations, weights, SHAPES)
    torch.testing.assert_close(out, torch.tensor([[[0.6, 0.6, 4.0, 4.0]]]))


def test_gradients_of_values_locations_and_weights() -> None:
    torch.manual_seed(0)
    values = torch.randn(2, 26, 4, dtype=torch.double, requires_grad=True)
    locations = (torch.rand(2, 3, 2, 2, 2, 2, dtype=torch.double) * 1.2 - 0.1).requires_grad_()
    weights = torch.rand(2, 3, 2, 2, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: sample(*x, SHAPES), (values, locations, weights), eps=1e-7)


def test_untrained_heads_look_in_their_own_directions() -> None:
    attention = DeformableAttention(16, heads=8, levels=2, points=3)
    offsets = attention.sampling_offsets.bias.detach().reshape(8, 2, 3, 2)
    for head in range(8):
        x, y = math.cos(head * math.pi / 4), math.sin(head * math.pi / 4)
        scale = max(abs(x), abs(y))
        for level in range(2):
            for point in range(3):
                expected = torch.tensor([x, y]) / scale * (point + 1)
                torch.testing.assert_close(offsets[head, level, point], expected, atol=1e-5, rtol=0)
    query = torch.randn(1, 26, 16)
    logits = attention.attention_weights(query)
    assert (logits == 0).all()


def test_sampling_stays_in_full_precision_under_autocast() -> None:
    torch.manual_seed(0)
    attention = DeformableAttention(16, heads=2, levels=2, points=2)
    query, value = torch.randn(1, 26, 16), torch.randn(1, 26, 16)
    seen = []
    attention.output_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attention(query, value, pixel_centers(SHAPES), SHAPES)
    exact = attention(query, value, pixel_centers(SHAPES), SHAPES)
    assert seen == [torch.float32] * 2
    assert (out - exact).abs().max() < 0.1


def test_the_width_must_divide() -> None:
    with pytest.raises(ValueError, match="width 10 must be a multiple of the 4 heads"):
        DeformableAttention(10, heads=4, levels=1, points=1)


def test_short_softmax_is_softmax() -> None:
    logits = torch.randn(3, 5, 2, 12, dtype=torch.double, requires_grad=True)
    torch.testing.assert_close(_softmax(logits), logits.softmax(-1), atol=1e-15, rtol=1e-14)
    assert torch.autograd.gradcheck(_softmax, (logits,))
