"""The frozen scorer against the official one, and what methods rely on."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from models.clip.test_towers import RESNET, TEXT, VIT
from models.small_tris import far, golden
from safetensors.torch import save_file

from maskris.data.tokenizer import ExpressionTokenizer
from maskris.models.clip.scorer import CLIPScorer
from maskris.models.encoders.tokenizers import build_clip_tokenizer


@torch.no_grad()
def test_golden_similarity_and_losses(shared: Path, tmp_path: Path) -> None:
    case = golden(shared, "tris_case.safetensors")
    save_file(golden(shared, "tris_scorer_state.safetensors"), tmp_path / "scorer.safetensors")
    scorer = CLIPScorer(str(tmp_path / "scorer.safetensors"))
    images, texts = scorer.embed_images(case["img"], case["loss_map"]), scorer.embed_texts(case["word_ids"])
    cosine = (images * texts).sum(1)
    assert far(cosine, case["loss_similarity"].flatten()) < 1e-4
    assert far(-cosine.clamp(1e-4, 0.9999).log().mean(), case["loss_fg"]) < 1e-4


def small(**changes: Any) -> CLIPScorer:
    torch.manual_seed(0)
    return CLIPScorer({**VIT, **TEXT} | changes)


def test_gradients_flow_through_it_and_never_into_it() -> None:
    scorer = small().train()
    maps = torch.rand(2, 1, 4, 6, requires_grad=True)
    scorer.embed_images(torch.randn(2, 3, 48, 64), maps).sum().backward()
    assert maps.grad is not None
    assert maps.grad.abs().min() > 0
    assert not any(parameter.requires_grad for parameter in scorer.parameters())


@torch.no_grad()
def test_images_and_maps_are_resized_apart() -> None:
    scorer = small()
    images, maps = torch.randn(2, 3, 48, 64), 14 * torch.rand(2, 1, 3, 5)
    size = (scorer.side, scorer.side)
    parts = [F.interpolate(x, size=size, mode="bilinear", align_corners=True) for x in (images, maps)]
    expected = F.normalize(scorer.clip.visual(parts[0] * parts[1])[:, 0], dim=-1)
    torch.testing.assert_close(scorer.embed_images(images, maps), expected)
    torch.testing.assert_close(expected.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(scorer.embed_images(images), scorer.embed_images(parts[0], torch.ones(2, 1, *size)))


@torch.no_grad()
def test_padding_does_not_matter_to_a_sentence() -> None:
    scorer = small()
    ids = torch.tensor([[1, 5, 6, 29]])
    torch.testing.assert_close(scorer.embed_texts(ids), scorer.embed_texts(F.pad(ids, (0, 3))), atol=1e-6, rtol=1e-5)


def test_what_is_no_scorer() -> None:
    with pytest.raises(ValueError, match="needs a CLIP with a vision transformer"):
        CLIPScorer({**RESNET, **TEXT})
    words = ExpressionTokenizer(build_clip_tokenizer([f"w{i}" for i in range(40)]), 10)
    with pytest.raises(ValueError, match="text encoder only 30"):
        CLIPScorer({**VIT, **TEXT}, words)
