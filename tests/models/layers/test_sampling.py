"""Sampling by table rows against `grid_sample`: values and gradients, wherever the points fall."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskris.models.layers.deformable import sample_grid, sample_levels
from maskris.models.layers.sampling import Shapes, can_sample_rows, sample_rows


def case(seed: int, shapes: Shapes, spread: float, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(2, sum(h * w for h, w in shapes), 6, generator=random, dtype=dtype)
    y, x, weights = (torch.randn(2, 5, 3, len(shapes), 2, generator=random, dtype=dtype) for _ in range(3))
    sides = torch.tensor(shapes, dtype=dtype)
    y, x = ((0.5 + spread * v) * sides[:, i, None] - 0.5 for i, v in enumerate((y, x)))
    return values.requires_grad_(), x.requires_grad_(), y.requires_grad_(), weights.requires_grad_()


@settings(max_examples=50)
@given(
    seed=st.integers(0, 1000),
    shapes=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=4),
    spread=st.sampled_from([0.1, 0.5, 2.0, 1e6]),
)
def test_rows_equal_grid_sample_with_their_gradients(seed: int, shapes: Shapes, spread: float) -> None:
    inputs = case(seed, shapes, spread)
    expected, got = sample_grid(*inputs, shapes), sample_rows(*inputs, shapes)
    torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)
    grad = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(got, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-8)


def test_single_precision_agrees() -> None:
    shapes = [(14, 14), (28, 28), (56, 56)]
    inputs = case(0, shapes, 0.4, torch.float32)
    torch.testing.assert_close(sample_rows(*inputs, shapes), sample_grid(*inputs, shapes), atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_finite_differences() -> None:
    shapes = [(2, 3), (4, 5)]
    assert torch.autograd.gradcheck(lambda *x: sample_rows(*x, shapes), case(1, shapes, 0.5), eps=1e-7)


def test_points_on_edges_and_corners() -> None:
    values = torch.arange(1.0, 7.0).reshape(1, 6, 1)
    edges = torch.tensor([-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0])
    x, y = torch.cartesian_prod(edges, edges).view(1, -1, 1, 1, 1, 2).unbind(-1)
    weights = torch.ones(x.shape)
    expected = sample_grid(values, x, y, weights, [(2, 3)])
    torch.testing.assert_close(sample_rows(values, x, y, weights, [(2, 3)]), expected, atol=1e-5, rtol=0)


def test_a_place_that_is_no_number_gives_no_number_and_no_crash() -> None:
    shapes = [(2, 3), (4, 5)]
    values, x, y, weights = (part.detach() for part in case(2, shapes, 0.3, torch.float32))
    x[0, 1, 2, 0, 1] = float("nan")
    out = sample_rows(values, x, y, weights, shapes)
    assert out[0, 1, 4:].isnan().all()
    assert out.isnan().sum() == 2


def test_only_the_gradients_that_are_asked_for() -> None:
    shapes = [(2, 3), (4, 5)]
    values, *others = case(3, shapes, 0.3)
    (alone,) = torch.autograd.grad(sample_rows(values, *(part.detach() for part in others), shapes).sum(), values)
    (expected,) = torch.autograd.grad(sample_grid(values, *others, shapes).sum(), values)
    torch.testing.assert_close(alone, expected)


@pytest.mark.parametrize(("dtype", "rows"), [(torch.float32, True), (torch.float64, False), (torch.bfloat16, False)])
def test_who_samples_rows(dtype: torch.dtype, rows: bool) -> None:
    assert can_sample_rows(torch.zeros(1, 6, 4, dtype=dtype), 2, [(2, 3)]) is rows
    assert not can_sample_rows(torch.zeros(1, 6, 4, dtype=dtype, device="meta"), 2, [(2, 3)])
    assert not can_sample_rows(torch.zeros(1, 1, 4).expand(1, 4096**2, 4), 2, [(4096, 4096)]), "the index is inexact"


def test_compilers_see_grid_sample() -> None:
    shapes = [(2, 3), (4, 5)]
    inputs = [x.detach() for x in case(4, shapes, 0.3, torch.float32)]

    class Sampling(torch.nn.Module):
        def forward(self, values: Tensor, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
            return sample_levels(values, x, y, weights, shapes)

    program = torch.export.export(Sampling(), tuple(inputs))
    assert "grid_sampler" in str(program.graph)
    torch.testing.assert_close(program.module()(*inputs), sample_levels(*inputs, shapes), atol=1e-5, rtol=1e-5)
