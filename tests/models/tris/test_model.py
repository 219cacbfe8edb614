"""The second stage of TRIS against the official network, and what a user of it relies on, whatever the weights."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from models.expressions import batch_of, check_many_expressions
from models.small_tris import ARGUMENTS, as_batch, far, golden, small_tris, tiny_tris
from torch import Tensor

from maskris.models.base import RISModel
from maskris.models.loading import load_model
from maskris.models.tris.decoder import PixelAttention
from maskris.models.tris.model import TRIS
from maskris.models.weights.rules import rename
from maskris.models.weights.tris import TRIS_RULES
from maskris.strategies.criteria.deep_masks import DeepMaskCriterion
from maskris.strategies.masking import ImageMasking
from maskris.strategies.maskris import MaskRIS
from maskris.utils.rng import Random


@torch.no_grad()
def test_golden_pixel_attention(shared: Path) -> None:
    case, attention = golden(shared, "tris_case.safetensors"), tiny_tris(shared).attentions[0]
    assert isinstance(attention, PixelAttention)
    ours = attention(attention.prepare(case["pa_vis"]), case["pa_lan"].transpose(1, 2))
    assert far(ours, case["pa_out"]) < 1e-5


@torch.no_grad()
def test_golden_evaluation_logits(shared: Path) -> None:
    case, model = golden(shared, "tris_case.safetensors"), tiny_tris(shared)
    logits = model(as_batch(case["img"], case["word_ids"]))
    assert logits.shape == (3, 1, 16, 24)
    assert far(model.upsample(logits, (64, 96)), case["s2_eval_logits"]) < 1e-4


def test_golden_training_logits_losses_and_gradients(shared: Path) -> None:
    case, described = golden(shared, "tris_case.safetensors"), golden(shared, "tris_case.json")
    model = tiny_tris(shared).train()
    batch = as_batch(case["img"], case["word_ids"], masks=case["s2_target"][:, 0].bool())
    logits = model(batch)
    for head in range(4):
        assert far(logits[:, head : head + 1], case[f"s2_train_logits{head + 1}"]) < 1e-4
        alone = DeepMaskCriterion()(model, logits[:, head : head + 1], batch)
        assert alone.item() == pytest.approx(described["s2_losses"][head], abs=1e-5)
    loss = DeepMaskCriterion()(model, logits, batch)
    assert loss.item() == pytest.approx(sum(described["s2_losses"]), abs=1e-4)
    loss.backward()
    parameters = dict(model.named_parameters())
    compared = [name for name in case if name.startswith("s2_grad/")]
    assert len(compared) == 4
    for name in compared:
        (ours,) = rename(name.removeprefix("s2_grad/"), TRIS_RULES) or []
        gradient = parameters[ours].grad
        assert gradient is not None
        assert far(gradient, case[name]) < 1e-4, name


@pytest.fixture(scope="module")
def model() -> TRIS:
    return small_tris()


@torch.no_grad()
def test_many_expressions_per_image_equal_one_at_a_time(model: TRIS) -> None:
    check_many_expressions(model, 1)


@torch.no_grad()
def test_what_is_attended_to_beyond_the_end_is_always_the_same(model: TRIS) -> None:
    """Padding is attended to, so that its amount and its ids must not vary with the batch."""
    images = torch.randn(1, 3, 64, 64)
    short = batch_of(model, images, ["the red circle"], [0])
    padded = batch_of(model, images, ["the red circle"], [0], pad_to=10)
    torch.testing.assert_close(model(padded), model(short), atol=1e-5, rtol=1e-5)
    other = padded.input_ids.masked_fill(padded.attention_mask == 0, 7)
    garbage = model.segment(model.encode_image(images), other, padded.attention_mask, padded.image_index)
    torch.testing.assert_close(garbage, model(short), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (72, 104), (96, 160)])
def test_other_sizes(model: TRIS, size: tuple[int, int]) -> None:
    batch = batch_of(model, torch.randn(2, 3, *size), ["left", "right"], [0, 1])
    assert model(batch).shape == (2, 1, size[0] // 4, size[1] // 4)
    training = small_tris().train()(batch)
    assert training.shape == (2, 4, *size)


@torch.no_grad()
def test_everything_of_the_image_alone_runs_once(model: TRIS) -> None:
    runs: dict[str, int] = {}

    def count(name: str, output: Tensor) -> None:
        runs[name] = len(output)

    early = ("clip.visual.layer4", "attentions.0.query", "attentions.2.visual", "decoder.reductions.0")
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: count(name, out))
        for name in (*early, "decoder.reductions.1")
    ]
    model(batch_of(model, torch.randn(1, 3, 64, 64), ["left", "right", "the circle"], [0, 0, 0]))
    for hook in hooks:
        hook.remove()
    assert runs == dict.fromkeys(early, 1) | {"decoder.reductions.1": 3}


def test_all_that_learns_learns_under_maskris() -> None:
    model = small_tris().train()
    batch = batch_of(model, torch.randn(2, 3, 64, 64), ["the red circle", "left of the square"], [0, 1])
    batch = as_batch(batch.images, batch.input_ids, masks=torch.rand(2, 64, 64) > 0.5)
    strategy = MaskRIS(image=ImageMasking(patch_size=16), criterion=DeepMaskCriterion())
    for loss in strategy.losses(model, batch, Random(0, 0, 0)):
        assert torch.isfinite(loss)
        loss.backward()
    idle = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert idle == {"clip.text.text_projection"}, "words are read, not the sentence"
    assert not model.clip.text.text_projection.requires_grad


def rates(model: RISModel) -> dict[str, float]:
    """The rate of each parameter that learns, over the full one; every one stands in one group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [(names[id(p)], group["lr"]) for group in model.parameter_groups(1.0, 0.01) for p in group["params"]]
    assert len(found) == len(dict(found))
    assert {group["weight_decay"] for group in model.parameter_groups(1.0, 0.01)} == {0.01}
    return dict(found)


def test_rates_of_the_second_stage(model: TRIS) -> None:
    found = rates(model)
    assert set(found) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    full = {name for name, rate in found.items() if rate == 1}
    assert {name for name in full if name.startswith("clip.")} == {"clip.text.positional_embedding"}
    assert {rate for name, rate in found.items() if name not in full} == {0.1}
    assert all(name.startswith("clip.") for name in found.keys() - full)


def test_saved_and_loaded(model: TRIS, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert isinstance(again, TRIS)
    assert again.config == model.config
    batch = batch_of(model, torch.randn(1, 3, 64, 64), ["the red circle"], [0])
    with torch.no_grad():
        assert torch.equal(model(batch), again(batch))


@torch.no_grad()
def test_token_features(model: TRIS) -> None:
    batch = batch_of(model, torch.randn(2, 3, 64, 96), ["the red circle", "left", "right"], [1, 0, 1])
    patches, words = model.token_features(batch)
    assert patches.shape == (3, 2, 3, 256)
    assert words.shape == (*batch.input_ids.shape, 64)
    assert torch.equal(patches, model.encode_image(batch.images).maps[2][[1, 0, 1]].permute(0, 2, 3, 1))


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="widths needs four numbers, the first of them even"):
        TRIS(**ARGUMENTS, widths=[5, 8, 8, 8])
    vit = {"embed_dim": 8, "vision_layers": 1, "vision_width": 64, "vision_patch_size": 16, "vocab_size": 60}
    with pytest.raises(ValueError, match="TRIS needs the ResNet of CLIP"):
        TRIS(**ARGUMENTS | {"clip": vit | {"transformer_width": 64, "transformer_layers": 1}})


@torch.no_grad()
def test_outputs_are_enlarged_in_one_step() -> None:
    """An output of stride 16 that went through stride 4 would be another."""
    model = small_tris().train()
    seen: list[Tensor] = []
    hook = model.decoder.heads[3].register_forward_hook(lambda _, __, out: seen.append(out))
    logits = model(batch_of(model, torch.randn(2, 3, 64, 64), ["left", "right"], [0, 1]))
    hook.remove()
    assert seen[0].shape == (2, 1, 4, 4)
    direct = F.interpolate(seen[0], size=(64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits[:, 3:], direct)
