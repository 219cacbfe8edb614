"""Our blocks of Swin against those of `transformers`: values and gradients."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import SwinConfig
from transformers.models.swin.modeling_swin import SwinBackbone, SwinLayer

from maskris.models.encoders.swin import Grid, SwinBlock, replace_blocks

CONFIG: dict[str, Any] = {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4], "out_features": ["stage1", "stage2"]}


def pair(window: int, **changes: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    theirs: Any = SwinBackbone(SwinConfig(window_size=window, drop_path_rate=0.0, **CONFIG, **changes)).double()
    for name, parameter in theirs.named_parameters():
        if parameter.ndim == 1 or "table" in name:
            nn.init.normal_(parameter, std=0.5)
    ours = copy.deepcopy(theirs)
    replace_blocks(ours)
    return theirs, ours


def outputs(backbone: Any, images: Tensor) -> Tensor:
    return torch.cat([x.flatten() for x in backbone(images).feature_maps])


@pytest.mark.parametrize(
    ("window", "size"), [(4, (64, 64)), (4, (36, 52)), (5, (64, 48)), (7, (20, 100)), (12, (33, 30))]
)
def test_blocks_equal_those_of_transformers(window: int, size: tuple[int, int]) -> None:
    theirs, ours = pair(window)
    assert sum(isinstance(module, SwinBlock) for module in ours.modules()) == 4
    images = torch.randn(2, 3, *size, dtype=torch.double, requires_grad=True)
    expected, got = outputs(theirs, images), outputs(ours, images)
    torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)
    grad = torch.randn_like(expected)
    wanted = [name for name, _ in theirs.named_parameters() if "swin.layernorm" not in name]
    assert wanted == [name for name, _ in ours.named_parameters() if "swin.layernorm" not in name]
    theirs_grads = torch.autograd.grad(expected, [images, *(theirs.get_parameter(n) for n in wanted)], grad)
    ours_grads = torch.autograd.grad(got, [images, *(ours.get_parameter(n) for n in wanted)], grad)
    for name, a, b in zip(["images", *wanted], ours_grads, theirs_grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-7, msg=f"gradient of {name}")


def test_projections_without_bias() -> None:
    theirs, ours = pair(5, qkv_bias=False)
    images = torch.randn(1, 3, 36, 44, dtype=torch.double)
    torch.testing.assert_close(outputs(ours, images), outputs(theirs, images), atol=1e-9, rtol=1e-9)
    outputs(ours, images).sum().backward()
    assert ours.swin.encoder.layers[0].blocks[1].attention.k_proj.weight.grad is not None


def test_blocks_that_drop_stay_as_they_are() -> None:
    _, ours = pair(4, attention_probs_dropout_prob=0.1)
    assert [type(block) for block in ours.swin.encoder.layers[0].blocks] == [SwinLayer, SwinLayer]


@pytest.mark.parametrize(("height", "width", "window", "shift"), [(6, 9, 4, 2), (8, 8, 4, 0), (3, 2, 7, 3)])
def test_windows_come_back_as_the_map(height: int, width: int, window: int, shift: int) -> None:
    grid = Grid(height, width, window, shift)
    x = torch.randn(2, height * width, 3)
    windows = grid.split(x, torch.full((3,), 9.0))
    assert windows.shape == (2 * -(-height // window) * -(-width // window), window**2, 3)
    assert (windows == 9).all(2).sum() == windows.shape[0] * window**2 - 2 * height * width
    assert torch.equal(grid.join(windows), x)


def test_mixed_precision() -> None:
    _, ours = pair(4)
    ours = ours.float()
    images = torch.randn(1, 3, 44, 28)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = outputs(ours, images)
    mixed.float().sum().backward()
    assert (mixed - outputs(ours, images)).abs().max() < 0.2
