"""CLIP's encoders against those of transformers, step by step, and what is special to the maps of CRIS."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from maskris.models.clip.resnet import AttentionPool2d, ModifiedResNet, resize_positions
from maskris.models.clip.towers import CLIP, CLIPVisionTransformer
from maskris.models.weights.encoders import build_clip

PRESETS: dict[str, dict[str, Any]] = {
    "RN50": {"embed_dim": 1024, "vision_layers": [3, 4, 6, 3], "vision_width": 64},
    "RN101": {"embed_dim": 512, "vision_layers": [3, 4, 23, 3], "vision_width": 64},
    "ViT-B/16": {"embed_dim": 512, "vision_layers": 12, "vision_width": 768, "vision_patch_size": 16},
}
"""OpenAI's configurations."""
VIT = {"embed_dim": 24, "image_resolution": 32, "vision_layers": 2, "vision_width": 128, "vision_patch_size": 8}
RESNET = {"embed_dim": 24, "image_resolution": 64, "vision_layers": [1, 2, 1, 1], "vision_width": 4}
TEXT = {"context_length": 12, "vocab_size": 30, "transformer_width": 64, "transformer_layers": 3}


def random(clip: CLIP) -> CLIP:
    """With weights under which everything matters."""
    generator = torch.Generator().manual_seed(0)
    for parameter in clip.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    return clip.eval()


def theirs(seed: int = 0) -> CLIPModel:
    torch.manual_seed(seed)
    config = CLIPConfig(
        text_config={
            **{"vocab_size": 30, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3},
            **{"num_attention_heads": 1, "max_position_embeddings": 12, "eos_token_id": 29, "bos_token_id": 28},
        },
        vision_config={
            **{"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 2},
            **{"image_size": 32, "patch_size": 8},
        },
        projection_dim=24,
    )
    model = CLIPModel(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def test_transformers_agrees(tmp_path: Path) -> None:
    model = theirs()
    model.save_pretrained(tmp_path)
    clip = build_clip(tmp_path).eval()
    images, ids = torch.randn(2, 3, 32, 32), torch.randint(1, 28, (3, 9))
    ids[:, 0], ids[0, 5], ids[1, 8], ids[2, 3] = 28, 29, 29, 29
    with torch.no_grad():
        tokens = clip.visual(images)
        words, state = clip.text(ids)
        vision, text = model.vision_model(images), model.text_model(ids)
        torch.testing.assert_close(tokens[:, 0], model.visual_projection(vision.pooler_output), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(words, text.last_hidden_state, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(state, model.text_projection(text.pooler_output), atol=1e-5, rtol=1e-5)
        large = model.vision_model(F.pad(images, (0, 16, 0, 8)), interpolate_pos_encoding=True)
        ours = clip.visual(F.pad(images, (0, 16, 0, 8)))[:, 0]
        torch.testing.assert_close(ours, model.visual_projection(large.pooler_output), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_step_by_step_is_the_same_as_at_once() -> None:
    clip = random(CLIP(**VIT, **TEXT))
    assert isinstance(clip.visual, CLIPVisionTransformer)
    images, ids = torch.randn(2, 3, 32, 48), torch.randint(0, 30, (3, 7))
    x = clip.text.embed(ids)
    for i in range(3):
        x = clip.text.run(x, slice(i, i + 1))
    for ours, whole in zip(clip.text.finish(x, ids), clip.text(ids), strict=True):
        assert torch.equal(ours, whole)
    y = clip.visual.embed(images)
    assert y.shape == (2, 1 + 4 * 6, 128)
    for i in range(2):
        y = clip.visual.run(y, slice(i, i + 1))
    assert torch.equal(clip.visual.finish(y), clip.visual(images))

    resnet = random(CLIP(**RESNET, **TEXT)).visual
    assert isinstance(resnet, ModifiedResNet)
    maps = resnet(images)
    assert [tuple(each.shape) for each in maps] == [(2, 32, 4, 6), (2, 64, 2, 3), (2, 24, 1, 1)]
    z = resnet.layer3(resnet.layer2(resnet.layer1(resnet.stem(images))))
    assert torch.equal(z, maps[1])
    assert torch.equal(resnet.attnpool(resnet.layer4(z)), maps[2])


@torch.no_grad()
def test_no_word_looks_to_its_right() -> None:
    text = random(CLIP(**RESNET, **TEXT)).double().text  # in single precision other lengths change the last bits
    ids = torch.randint(1, 28, (1, 8))
    ids[0, 4], ids[0, 5:] = 29, 0
    words, state = text(ids)
    for other in (torch.randint(0, 29, (1, 3)), torch.zeros(1, 0, dtype=torch.long)):
        again = text(torch.cat([ids[:, :5], other], dim=1))
        torch.testing.assert_close(again[0][:, :5], words[:, :5], atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(again[1], state, atol=1e-12, rtol=1e-12)
    with pytest.raises(ValueError, match="at most 12 tokens, not 13"):
        text(torch.ones(1, 13, dtype=torch.long))


@torch.no_grad()
def test_without_the_new_branch_the_pool_is_openais_attention_with_every_position_a_query() -> None:
    torch.manual_seed(0)
    pool = AttentionPool2d(2, 32, 4, 12).eval()
    torch.nn.init.zeros_(pool.connect[1].weight)
    x = torch.randn(2, 32, 2, 2)
    tokens = x.flatten(2).permute(2, 0, 1) + pool.positional_embedding[1:, None]
    parts = (pool.q_proj, pool.k_proj, pool.v_proj)
    expected, _ = F.multi_head_attention_forward(
        tokens, tokens, tokens, 32, 4, None, torch.cat([part.bias for part in parts]), None, None, False, 0.0,
        pool.c_proj.weight, pool.c_proj.bias, use_separate_proj_weight=True,
        q_proj_weight=parts[0].weight, k_proj_weight=parts[1].weight, v_proj_weight=parts[2].weight,
    )  # fmt: skip
    torch.testing.assert_close(pool(x), expected.permute(1, 2, 0).unflatten(2, (2, 2)).relu(), atol=1e-6, rtol=1e-6)


def test_positions_are_resized_as_maps() -> None:
    table = torch.randn(1 + 9, 4)
    assert resize_positions(table, 3, 3) is table
    wide = resize_positions(table, 3, 7)
    assert wide.shape == (22, 4)
    assert torch.equal(wide[0], table[0]), "the class token has no place"
    expected = F.interpolate(table[1:].T.view(1, 4, 3, 3), (3, 7), mode="bicubic")[0].flatten(1).T
    torch.testing.assert_close(wide[1:], expected)
    assert resize_positions(table.half(), 5, 5).dtype == torch.float16
    with pytest.raises(ValueError, match=r"needs 1 \+ s² rows, not 9"):
        resize_positions(table[:9], 3, 3)


@pytest.mark.parametrize(("name", "size"), [("RN50", 102007137), ("RN101", 119688033), ("ViT-B/16", 149620737)])
def test_the_presets_have_as_many_parameters_as_openais(name: str, size: int) -> None:
    with torch.device("meta"):
        clip = CLIP(**PRESETS[name])
    ours = sum(parameter.numel() for name, parameter in clip.named_parameters() if ".connect." not in name)
    assert ours + 1 == size, "OpenAI's has no connecting branch, but a temperature"


def test_the_configuration_builds_the_same_again() -> None:
    for arguments in (VIT | TEXT, RESNET | TEXT):
        clip = CLIP(**arguments)
        again = CLIP(**clip.config)
        assert again.config == clip.config

        def shapes(model: CLIP) -> dict[str, torch.Size]:
            return {name: value.shape for name, value in model.state_dict().items()}

        assert shapes(again) == shapes(clip)


def test_fresh_blocks_begin_as_their_shortcuts() -> None:
    resnet = CLIP(**RESNET, **TEXT).visual
    zeros = [name for name, value in resnet.named_parameters() if name.endswith("bn3.weight") and not value.any()]
    assert len(zeros) == 5, "bn3 of every bottleneck, not of the stem"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (RESNET | {"vision_patch_size": 8}, "vision_patch_size, a ResNet four numbers and none"),
        (VIT | {"vision_patch_size": None}, "one number of vision_layers"),
        (RESNET | {"vision_layers": [1, 1, 1]}, "has four stages"),
        (RESNET | {"vision_heads": 3}, "3 heads must divide its width 128"),
        (VIT | {"vision_heads": 3}, "3 heads must divide the width 128"),
    ],
)
def test_contradictions_are_named(arguments: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CLIP(**arguments, **TEXT)
