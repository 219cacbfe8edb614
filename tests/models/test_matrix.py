"""Every model with every family of encoders: it learns, all of it, and comes back from a folder as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models.families import TEXT, VISION, text, vision
from models.small import BERT, SWIN, WORDS

from maskris.batch import Batch
from maskris.models.base import RISModel
from maskris.models.caris.model import CARIS
from maskris.models.lavt import LAVT
from maskris.strategies.criteria.masks import MaskCriterion

SMALL: dict[type[RISModel], dict[str, Any]] = {
    CARIS: {"width": 32, "layers": 1, "heads": 4, "points": 2},
    LAVT: {"trained_text_layers": None},
}
NO_STAGES = {"beit", "focalnet"}
"""Vision families that can't be stopped between their stages, as LAVT must."""
# Every vision family reads with BERT, every text family sees with Swin: encoders meet in the model alone.
PAIRS = [(kind, "bert") for kind in VISION] + [("swin", kind) for kind in TEXT if kind != "bert"]
CASES = [
    pytest.param(model, sees, reads, id=f"{model.__name__}-{sees}-{reads}")
    for model in SMALL
    for sees, reads in PAIRS
    if model is CARIS or sees not in NO_STAGES
]


def build(model_class: type[RISModel], sees: dict[str, Any], reads: dict[str, Any]) -> RISModel:
    torch.manual_seed(0)
    return model_class(
        vision=sees,
        text=reads,
        tokenizer=WORDS,
        max_tokens=10,
        preprocess={"height": 64, "width": 96},
        **SMALL[model_class],
    )


def batch_of(model: RISModel) -> Batch:
    tokens = model.tokenizer(["the red circle", "left", "square of the right circle"])
    masks = torch.zeros(3, 64, 96, dtype=torch.bool)
    masks[:, 10:40, 20:60] = True
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    return Batch(images, tokens.input_ids, tokens.attention_mask, torch.tensor([0, 1, 1]), masks)


@pytest.mark.parametrize(("model_class", "sees", "reads"), CASES)
def test_any_encoder(model_class: type[RISModel], sees: str, reads: str, tmp_path: Path) -> None:
    model = build(model_class, vision(sees), text(reads)).train()
    batch = batch_of(model)
    optimizer = torch.optim.AdamW(model.parameter_groups(1e-3, 1e-2))
    before = {name: value.clone() for name, value in model.state_dict().items()}

    loss = MaskCriterion()(model, model(batch), batch)
    assert torch.isfinite(loss)
    loss.backward()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []
    learning = {name.split(".")[0] for name, parameter in trained.items() if parameter.grad.abs().max() > 0}
    assert learning == {name.split(".")[0] for name in before}, "vision, text and decoder all learn"
    optimizer.step()
    moved = {name for name, parameter in trained.items() if not torch.equal(parameter, before[name])}
    assert {"vision", "text", "decoder"} <= {name.split(".")[0] for name in moved}

    model.eval().save_pretrained(tmp_path)
    again = model_class.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(model(batch), again(batch))
        patches, words = model.token_features(batch)
    assert patches.ndim == 4
    assert patches.shape[0] == 3
    assert words.shape == (*batch.input_ids.shape, model.text.width)


@pytest.mark.parametrize("kind", sorted(NO_STAGES))
def test_early_fusion_says_where_it_can_not_fuse(kind: str) -> None:
    with pytest.raises(ValueError, match=f"The stages of a {kind} can't be told apart.*choose one of"):
        build(LAVT, vision(kind), BERT)


def test_timm_sees_too(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="the extra timm is not installed")
    model = build(CARIS, {"model_type": "timm_backbone", "backbone": "resnet18"}, BERT).eval()
    batch = batch_of(model)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(model(batch), CARIS.from_pretrained(tmp_path)(batch))


def test_the_two_encoders_say_what_they_are() -> None:
    config = build(CARIS, SWIN, text("clip_text_model")).config
    assert (config["vision"]["model_type"], config["text"]["model_type"]) == ("swin", "clip_text_model")
