"""Stage by stage gives what the backbone gives at once, and a change after one stage reaches all later ones alone."""

from typing import Any

import pytest
import torch
from models.small import SWIN
from torch import Tensor

from maskris.models.encoders.staged import StagedVisionEncoder
from maskris.models.encoders.vision import VisionEncoder

CONV: dict[str, Any] = {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1]}
VIT: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 2, "image_size": 56}
BACKBONES: dict[str, dict[str, Any]] = {
    "swin": SWIN,
    "swinv2": SWIN,
    "convnext": CONV,
    "convnextv2": CONV,
    "dinov3_convnext": CONV,
    "resnet": CONV | {"embedding_size": 8, "layer_type": "basic"},
    "hgnet_v2": {
        "embedding_size": 8,
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [8, 16, 32, 64],
        "stem_channels": [3, 8, 8],
        "stage_in_channels": [8, 8, 16, 32],
        "stage_mid_channels": [4, 4, 8, 8],
        "stage_out_channels": [8, 16, 32, 64],
        "stage_num_blocks": [1, 1, 1, 1],
        "stage_numb_of_layers": [1, 1, 1, 1],
    },
    "pvt_v2": CONV | {"num_attention_heads": [1, 1, 2, 2]},
    "dinov2": VIT,
    "dinov2_with_registers": VIT | {"num_register_tokens": 3},
    "dinov3_vit": VIT | {"num_register_tokens": 2, "intermediate_size": 64, "patch_size": 16},
}


def build(kind: str, seed: int = 0, **changes: Any) -> StagedVisionEncoder:
    torch.manual_seed(seed)
    encoder = StagedVisionEncoder({"model_type": kind, **BACKBONES.get(kind, {}), **changes}).eval()
    for parameter in encoder.parameters():  # away from layer scales of zero and norms that do nothing
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return encoder


def stages(encoder: StagedVisionEncoder, images: Tensor, change: int | None = None) -> list[Tensor]:
    """The four maps, normalized, the next stage having read that of stage `change` with its channels upside down."""
    maps = []
    with torch.no_grad():
        walk = encoder.iterate_stages(images)
        x = next(walk)
        for i in range(4):
            maps.append(encoder.normalize(i, x))
            if i < 3:
                x = walk.send(x.flip(1) if i == change else x)
    return maps


@pytest.mark.parametrize("size", [(64, 64), (42, 91)])
@pytest.mark.parametrize("kind", BACKBONES)
def test_unchanged_maps_are_those_of_the_backbone(kind: str, size: tuple[int, int]) -> None:
    encoder = build(kind)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        at_once = encoder(images)
    for ours, theirs in zip(stages(encoder, images), at_once, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_change_reaches_the_later_stages(kind: str) -> None:
    encoder = build(kind)
    images = torch.randn(1, 3, 56, 56)
    before = stages(encoder, images)
    for change in range(3):
        after = stages(encoder, images, change)
        moved = [((a - b).abs().max() / a.abs().max()).item() for a, b in zip(before, after, strict=True)]
        assert moved[: change + 1] == [0.0] * (change + 1)
        assert min(moved[change + 1 :]) > 1e-4


def test_chosen_layers_of_a_transformer() -> None:
    encoder = build("dinov2", out_features=["stage1", "stage2", "stage3", "stage4"])
    images = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        at_once = encoder(images)
    for ours, theirs in zip(stages(encoder, images), at_once, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_names_and_configuration_are_those_of_the_plain_encoder() -> None:
    source = {"model_type": "swin", **SWIN}
    staged, plain = StagedVisionEncoder(source, 0.2), VisionEncoder(source, 0.2)
    plain.load_state_dict(staged.state_dict())
    assert (staged.config, staged.channels) == (plain.config, plain.channels)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"model_type": "focalnet", "embed_dim": 8, "hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1]},
            r"stages of a focalnet can't be told apart.*choose one of convnext, .*swin, swinv2, timm",
        ),
        (
            {"model_type": "resnet", **BACKBONES["resnet"], "out_features": ["stem", "stage2", "stage3", "stage4"]},
            "The stem of a resnet is no stage",
        ),
        ({"model_type": "swin", **SWIN, "out_features": ["stage1"]}, "swin gives 1 feature map"),
    ],
)
def test_what_cannot_work_says_why(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StagedVisionEncoder(source)


@pytest.mark.parametrize(("name", "indices"), [("resnet18", [1, 2, 3, 4]), ("mambaout_femto", [0, 1, 2, 3])])
def test_timm(name: str, indices: list[int]) -> None:
    pytest.importorskip("timm")
    torch.manual_seed(0)
    source = {"model_type": "timm_backbone", "backbone": name, "out_indices": indices}
    encoder = StagedVisionEncoder(source).eval()
    images = torch.randn(1, 3, 64, 96)
    maps = stages(encoder, images)
    assert [x.shape[1] for x in maps] == encoder.channels
    with torch.no_grad():
        at_once = encoder(images)
    for ours, theirs in zip(maps, at_once, strict=True):  # mambaout keeps channels last
        torch.testing.assert_close(ours, theirs if theirs.shape == ours.shape else theirs.movedim(-1, 1))
    assert (stages(encoder, images, 0)[3] - maps[3]).abs().max() > 1e-4


def test_networks_of_timm_that_are_no_chains() -> None:
    pytest.importorskip("timm")
    source = {"model_type": "timm_backbone", "backbone": "hrnet_w18_small", "out_indices": [1, 2, 3, 4]}
    with pytest.raises(ValueError, match=r"timm's hrnet_w18_small is no chain of modules"):
        StagedVisionEncoder(source)
