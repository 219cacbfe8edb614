"""CRIS against the official network, and what a user of it relies on, whatever the weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from models import literal_cris
from models.expressions import batch_of, check_many_expressions
from models.small_cris import arguments, configuration, golden, logits_of, small_cris, tiny_cris
from models.small_etris import without_dropout
from torch import Tensor

from maskris.batch import Batch
from maskris.data.preprocess import CLIP_LETTERBOX
from maskris.models.cris.model import CRIS
from maskris.models.loading import load_model
from maskris.models.weights.convert import load_official
from maskris.models.weights.cris import CRIS_RULES
from maskris.models.weights.rules import rename
from maskris.strategies.criteria.masks import MaskCriterion
from maskris.strategies.masking import ImageMasking
from maskris.strategies.maskris import MaskRIS
from maskris.utils.rng import Random

OUTPUTS = ("vis0", "vis1", "vis2", "words", "state", "neck", "decoder_out", "logits")
CRITERION = MaskCriterion(background=1.0, referent=1.0, resolution="logits")


def far(ours: Tensor, official: Tensor) -> float:
    """The largest difference, relative to the largest value where that exceeds 1."""
    assert ours.shape == official.shape
    return (ours.double() - official.double()).abs().max().item() / max(1.0, official.abs().max().item())


def everything(model: CRIS, images: Tensor, ids: Tensor) -> dict[str, Tensor]:
    """What the golden file holds, of one pass."""
    seen: dict[str, Tensor] = {}
    hooks = [
        model.clip.visual.register_forward_hook(
            lambda _, __, out: seen.update({f"vis{i}": each for i, each in enumerate(out)})
        ),
        model.clip.text.register_forward_hook(lambda _, __, out: seen.update(words=out[0], state=out[1])),
        model.neck.register_forward_hook(lambda _, __, out: seen.__setitem__("neck", out)),
        model.decoder.register_forward_hook(lambda _, __, out: seen.__setitem__("decoder_out", out.flatten(2))),
    ]
    seen["logits"] = logits_of(model, images, ids)
    for hook in hooks:
        hook.remove()
    return seen


def as_batch(case: dict[str, Tensor]) -> Batch:
    ids = case["input_ids"]
    return Batch(case["image"], ids, (ids != 0).long(), torch.arange(len(ids)), case["target_mask"].float())


@torch.no_grad()
def test_every_golden_tensor(shared: Path) -> None:
    case = golden(shared, "cris_tiny_case1.safetensors")
    ours = everything(tiny_cris(shared), case["image"], case["input_ids"])
    assert {name: far(ours[name], case[name]) for name in OUTPUTS} == pytest.approx(dict.fromkeys(OUTPUTS, 0), abs=1e-5)
    assert (ours["logits"] - case["logits"]).abs().max() < 2e-5


def test_golden_loss_and_gradients(shared: Path) -> None:
    case, described = golden(shared, "cris_tiny_case1.safetensors"), golden(shared, "cris_tiny_case1.json")
    model, batch = without_dropout(tiny_cris(shared)), as_batch(case)
    loss = CRITERION(model, model(batch), batch)
    assert loss.item() == pytest.approx(described["loss_train_mode_dropout_off"], rel=3e-6)
    loss.backward()
    parameters = dict(model.named_parameters())
    compared = 0
    for name, norm in described["grad_norm"].items():
        ours = [parameters[new] for new in rename(name, CRIS_RULES) or []]
        if norm is None:
            assert ours == [], f"{name} has no gradient and so no place in the model"
            continue
        assert all(parameter.grad is not None for parameter in ours), name
        gradient = torch.cat([parameter.grad for parameter in ours])  # the official q, k and v are one
        assert gradient.norm().item() == pytest.approx(norm, rel=2e-5, abs=1e-6), name
        if f"grad.{name}" in case:
            assert far(gradient, case[f"grad.{name}"]) < 3e-5, name
        compared += len(ours)
    assert compared == len(parameters), "no dead parameters"


def test_the_literal_reference_is_the_official_network(shared: Path) -> None:
    """The judge of the unseen configurations is itself judged here."""
    config = golden(shared, "config.json")["configurations"]["cris_tiny"]["config"]
    case, weights = golden(shared, "cris_tiny_case1.safetensors"), golden(shared, "cris_tiny_state.safetensors")
    assert {name: tuple(value.shape) for name, value in weights.items()} == literal_cris.shapes(config)
    found = literal_cris.cris(weights, config, case["image"], case["input_ids"])
    assert max(far(found[name], case[name]) for name in OUTPUTS) < 1e-5
    training = literal_cris.cris(weights, config, case["image"], case["input_ids"], train=True)["logits"]
    target = F.interpolate(case["target_mask"][:, None].double(), training.shape[2:], mode="nearest")
    assert F.binary_cross_entropy_with_logits(training, target).item() == pytest.approx(case["loss"].item(), rel=3e-6)


UNSEEN: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "wide image, other heads": ((64, 128), {"num_head": 2, "num_layers": 3}),
    "the size of the positions, one layer": ((64, 64), {"num_head": 8, "fpn_out": [8, 32, 24], "dim_ffn": 40}),
    "tall image, deeper and wider encoders": (
        (160, 96),
        {"clip": {"vision_layers": [2, 1, 1, 2], "vision_width": 6, "embed_dim": 40, "transformer_layers": 3}},
    ),
    "two heads in the text encoder, other positions": (
        (96, 96),
        {"clip": {"transformer_width": 128, "image_resolution": 128}, "num_head": 16, "num_layers": 2},
    ),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_unseen_configurations(name: str) -> None:
    size, changes = UNSEEN[name]
    c = configuration(**changes)
    weights = literal_cris.random_weights(c, seed=len(name))
    model = CRIS(**arguments(c)).eval()
    load_official(model, weights)
    torch.manual_seed(0)
    images, ids = torch.randn(3, 3, *size), torch.randint(3, 18, (3, 10))
    ids[:, 7] = 19  # the end
    ids[:, 8:] = 0
    expected = literal_cris.cris(weights, c, images, ids)
    with torch.no_grad():
        ours = everything(model, images, ids)
    assert expected["logits"].std() > 0.05, "a flat map would hide mistakes"
    for key, value in expected.items():
        assert far(ours[key], value) < 2e-5, key

    training = literal_cris.cris(weights, c, images, ids, train=True)["logits"]
    without_dropout(model).double()  # batch statistics of a few pixels make single precision worth little
    with torch.no_grad():
        assert far(logits_of(model, images.double(), ids), training) < 1e-6


@pytest.fixture(scope="module")
def model() -> CRIS:
    return small_cris()


@torch.no_grad()
def test_many_expressions_per_image_equal_one_at_a_time(model: CRIS) -> None:
    check_many_expressions(model, 1)


@torch.no_grad()
def test_padding_does_not_matter(model: CRIS) -> None:
    images = torch.randn(1, 3, 64, 64)
    short = model(batch_of(model, images, ["the red circle"], [0]))
    batch = batch_of(model, images, ["the red circle"], [0], pad_to=14)
    torch.testing.assert_close(model(batch), short, atol=1e-5, rtol=1e-5)
    filled = torch.where(batch.attention_mask == 1, batch.input_ids, 7)
    garbage = model(Batch(images, filled, batch.attention_mask, batch.image_index))
    torch.testing.assert_close(garbage, short, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 32), (70, 95), (64, 160)])
def test_any_size(model: CRIS, size: tuple[int, int]) -> None:
    logits = model(batch_of(model, torch.randn(1, 3, *size), ["left"], [0]))
    assert logits.shape == (1, 1, *((side + 1) // 16 * 4 for side in size))
    assert model.upsample(logits, size).shape == (1, 1, *size)


@torch.no_grad()
def test_everything_of_the_image_alone_runs_once(model: CRIS) -> None:
    runs: dict[str, int] = {}
    early = ("clip.visual", "neck.f1_v_proj", "neck.f2_v_proj", "neck.f3_v_proj")
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: runs.__setitem__(name, len(out[0] if isinstance(out, tuple) else out))
        )
        for name in (*early, "neck.f2_cat")
    ]
    model(batch_of(model, torch.randn(1, 3, 64, 64), ["left", "right", "the circle"], [0, 0, 0]))
    for hook in hooks:
        hook.remove()
    assert runs == dict.fromkeys(early, 1) | {"neck.f2_cat": 3}


@torch.no_grad()
def test_probabilities_are_upsampled_as_published(model: CRIS) -> None:
    logits = 12 * torch.randn(2, 1, 16, 16)
    up = model.upsample(logits, (61, 80)).sigmoid()
    published = F.interpolate(logits.sigmoid(), (61, 80), mode="bicubic", align_corners=True)
    assert published.min() < 0, "bicubic interpolation overshoots"
    torch.testing.assert_close(up, published.clamp(0, 1), atol=2e-6, rtol=0)
    assert torch.equal(up > 0.35, published > 0.35)
    assert torch.equal(model.upsample(logits, (16, 16)), logits)


def test_upsampling_has_a_gradient_in_training() -> None:
    model = small_cris().train()
    logits = torch.full((1, 1, 8, 8), -40.0, requires_grad=True)
    masks = torch.ones(1, 32, 32, dtype=torch.bool)
    batch = Batch(
        torch.zeros(1, 3, 32, 32), torch.ones(1, 3).long(), torch.ones(1, 3).long(), torch.zeros(1).long(), masks
    )
    MaskCriterion()(model, logits, batch).backward()
    assert logits.grad is not None
    assert logits.grad.sum() == pytest.approx(-1, abs=1e-3), "confident mistakes are felt"


@torch.no_grad()
def test_token_features_are_those_of_every_expression(model: CRIS) -> None:
    batch = batch_of(model, torch.randn(2, 3, 64, 96), ["the red circle", "left", "right"], [1, 0, 1])
    patches, words = model.token_features(batch)
    assert patches.shape == (3, 2, 3, 24)
    assert words.shape == (*batch.input_ids.shape, 32)
    features = model.encode_image(batch.images)
    assert torch.equal(patches, features.c5[[1, 0, 1]].permute(0, 2, 3, 1))
    assert torch.equal(words, model.clip.text(batch.input_ids)[0])


def test_all_parameters_learn_under_maskris() -> None:
    model = small_cris().train()
    batch = batch_of(model, torch.randn(2, 3, 64, 64), ["the red circle", "left of the square"], [0, 1])
    masks = torch.rand(2, 64, 64)  # soft outlines
    batch = Batch(batch.images, batch.input_ids, batch.attention_mask, batch.image_index, masks)
    strategy = MaskRIS(image=ImageMasking(patch_size=8), criterion=CRITERION)
    for loss in strategy.losses(model, batch, Random(0, 0, 0)):
        assert torch.isfinite(loss)
        loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_one_sentence_is_no_batch(model: CRIS) -> None:
    alone = batch_of(model, torch.randn(1, 3, 64, 64), ["left"], [0])
    with pytest.raises(ValueError, match="two expressions or more"):
        small_cris().train()(alone)


def test_parameter_groups_hold_everything_once(model: CRIS) -> None:
    slow, full = model.parameter_groups(lr=1.0, weight_decay=0.5)
    held = [id(parameter) for group in (slow, full) for parameter in group["params"]]
    assert sorted(held) == sorted(map(id, model.parameters()))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert (slow["lr"], full["lr"]) == (0.1, 1.0)
    assert all(names[id(parameter)].startswith("clip.") for parameter in slow["params"])
    clip_at_full_rate = {names[id(p)] for p in full["params"] if names[id(p)].startswith("clip.")}
    assert clip_at_full_rate == {"clip.text.positional_embedding", "clip.visual.attnpool.positional_embedding"}
    assert {group["weight_decay"] for group in (slow, full)} == {0.5}


def test_saved_and_loaded(model: CRIS, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    again = CRIS.from_pretrained(tmp_path)
    batch = batch_of(model, torch.randn(1, 3, 64, 64), ["the red circle"], [0])
    with torch.no_grad():
        assert torch.equal(model(batch), again(batch))
    assert again.config == model.config
    assert again.tokenizer.mask_id == model.tokenizer.mask_id
    assert isinstance(load_model(tmp_path), CRIS)


def test_the_default_input_is_the_published_letterbox() -> None:
    c = configuration()
    values = {key: value for key, value in arguments(c).items() if key != "preprocess"}
    assert CRIS(**values).preprocess == CLIP_LETTERBOX


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fpn_out": [16, 30, 40]}, "second being the width of CLIP's words 32, not"),
        ({"num_head": 5}, "multiple of 4 and of its 5 heads"),
        ({"max_tokens": 90}, "max_tokens = 90 is more than the 77"),
        ({"tokenizer": list("abcdefghijklmnopqrstuvwxyz")}, "knows 31 tokens, CLIP's text encoder only 20"),
        ({"tokenizer": None}, "needs a tokenizer"),
        ({"clip": {"embed_dim": 8}}, "no configuration of CLIP: .*vision_layers"),
        ({"clip": configuration()["clip"] | {"width": 3}}, "no configuration of CLIP: .*width"),
        (
            {"clip": configuration()["clip"] | {"vision_layers": 2, "vision_width": 16, "vision_patch_size": 16}},
            "needs the ResNet of CLIP",
        ),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CRIS(**(arguments(configuration()) | changes))
