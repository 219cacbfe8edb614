"""The forms of attention are one function."""

import pytest
import torch
from torch import nn

from maskris.models.layers.attention import Attention


def attention(width: int = 16, heads: int = 4, ratio: int = 3) -> Attention:
    module = Attention(width, heads, ratio).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)  # biases too
    return module


@pytest.mark.parametrize("form", ["few_queries", "few_keys"])
@pytest.mark.parametrize("masked", [False, True])
def test_thin_forms_equal_the_wide_one_with_their_gradients(form: str, masked: bool) -> None:
    torch.manual_seed(0)
    module = attention()
    inputs = [torch.randn(2, length, 16, dtype=torch.double, requires_grad=True) for length in (3, 7, 7)]
    visible = torch.tensor([[1, 1, 0, 1, 0, 1, 1], [0, 1, 1, 1, 1, 1, 0]]).bool() if masked else None
    expected, got = module.wide(*inputs, visible), getattr(module, form)(*inputs, visible)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)
    grad = torch.randn_like(expected)
    names = ["query", "key", "value", *(name for name, _ in module.named_parameters())]
    wanted = [*inputs, *module.parameters()]
    theirs = torch.autograd.grad(expected, wanted, grad)
    ours = torch.autograd.grad(got, wanted, grad)
    for name, a, b in zip(names, ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11, msg=f"gradient of {name}")


@pytest.mark.parametrize(
    ("queries", "keys", "form"),
    [(25, 4116, "few_queries"), (4116, 25, "few_keys"), (25, 25, "wide"), (4116, 4116, "wide"), (1, 2, "few_queries")],
)
def test_the_form_follows_the_shapes(queries: int, keys: int, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = Attention(256, 8, 4)
    for name in ("wide", "few_queries", "few_keys"):
        monkeypatch.setattr(module, name, lambda *_, name=name: name)
    key = torch.empty(1, keys, 256, device="meta")
    assert module(torch.empty(1, queries, 256, device="meta"), key, key) == form


def test_every_parameter_gets_a_gradient() -> None:
    """Distributed training waits for each of them, though the bias of the keys cancels."""
    for queries, keys in ((2, 50), (50, 2), (3, 3)):
        module = Attention(16, 2, 4)
        x, y = torch.randn(1, queries, 16), torch.randn(1, keys, 16)
        module(x, y, y).square().sum().backward()
        assert [name for name, parameter in module.named_parameters() if parameter.grad is None] == []
