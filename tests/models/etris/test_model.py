"""ETRIS against the official network: golden tensors, and a literal reference where there are none."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from models import literal_etris
from models.expressions import batch_of, check_many_expressions
from models.small_etris import (
    KINDS,
    arguments,
    configuration,
    golden,
    logits_of,
    small_etris,
    tiny_etris,
    without_dropout,
)
from torch import Tensor, nn
from transformers.models.clip.modeling_clip import CLIPAttention

from maskris.batch import Batch
from maskris.models.etris.model import ETRIS
from maskris.models.loading import load_model
from maskris.models.weights.convert import load_official
from maskris.models.weights.etris import ETRIS_RULES
from maskris.models.weights.rules import rename

OUTPUTS = ("vis0", "vis1", "vis2", "words", "state", "neck", "decoder_out", "logits")


def far(ours: Tensor, official: Tensor) -> float:
    assert ours.shape == official.shape
    return (ours.double() - official.double()).abs().max().item()


def everything(model: ETRIS, images: Tensor, ids: Tensor) -> dict[str, Tensor]:
    """What the golden files hold, of one pass."""
    seen: dict[str, Tensor] = {}
    hooks = [
        model.encoders.register_forward_hook(
            lambda _, __, out: seen.update(vis0=out[0][0], vis1=out[0][1], vis2=out[0][2], words=out[1], state=out[2])
        ),
        model.neck.register_forward_hook(lambda _, __, out: seen.__setitem__("neck", out)),
        model.decoder.register_forward_hook(lambda _, __, out: seen.__setitem__("decoder_out", out.flatten(2))),
    ]
    seen["logits"] = logits_of(model, images, ids)
    for hook in hooks:
        hook.remove()
    return seen


def named(literal: dict[str, Any]) -> dict[str, Tensor]:
    """What the literal reference returns, under the names of the golden files."""
    return {**{f"vis{i}": each for i, each in enumerate(literal["vis"])}, **{k: literal[k] for k in OUTPUTS[3:]}}


def loss_of(logits: Tensor, masks: Tensor) -> Tensor:
    target = F.interpolate(masks[:, None].to(logits.dtype), logits.shape[2:], mode="nearest")
    return F.binary_cross_entropy_with_logits(logits, target)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_golden_tensor(shared: Path, kind: str) -> None:
    case = golden(shared, f"{kind}_case1.safetensors")
    ours = everything(tiny_etris(shared, kind), case["image"], case["input_ids"])
    # The neck's values reach 26, so that its absolute error is the largest.
    assert {name: far(ours[name], case[name]) for name in OUTPUTS} == pytest.approx(dict.fromkeys(OUTPUTS, 0), abs=5e-5)
    assert far(ours["logits"], case["logits"]) < 2.5e-5


@pytest.mark.parametrize("kind", KINDS)
def test_golden_loss_and_gradients(shared: Path, kind: str) -> None:
    case, described = golden(shared, f"{kind}_case1.safetensors"), golden(shared, f"{kind}_case1.json")
    model = without_dropout(tiny_etris(shared, kind))
    loss = loss_of(logits_of(model, case["image"], case["input_ids"]), case["target_mask"])
    assert loss.item() == pytest.approx(described["loss_train_mode_dropout_off"], rel=2e-6)
    loss.backward()
    parameters = dict(model.named_parameters())
    for name, norm in described["grad_norm"].items():
        ours = [parameters[new] for new in rename(name, ETRIS_RULES) or [] if new]
        if norm is None:
            assert all(parameter.grad is None for parameter in ours), name
            continue
        assert all(parameter.grad is not None for parameter in ours), name
        gradient = torch.cat([parameter.grad for parameter in ours])  # the official q, k and v are one
        # Half a dozen units of rounding of the loss for what is zero in truth (norm3.bias before a batch norm).
        assert gradient.norm().item() == pytest.approx(norm, rel=2e-5, abs=1e-6), name
        if f"grad.{name}" in case:
            assert far(gradient, case[f"grad.{name}"]) < 5e-6, name
    trained = {name for name, parameter in parameters.items() if parameter.requires_grad}
    assert trained == {new for name in described["requires_grad"] for new in rename(name, ETRIS_RULES) or [] if new}


@pytest.mark.parametrize("kind", KINDS)
def test_the_literal_reference_is_the_official_network(shared: Path, kind: str) -> None:
    """The judge of the unseen configurations is itself judged here."""
    config = golden(shared, "config.json")["configurations"][kind]["config"]
    case, weights = golden(shared, f"{kind}_case1.safetensors"), golden(shared, f"{kind}_state.safetensors")
    assert {name: tuple(value.shape) for name, value in weights.items()} == literal_etris.shapes(config)
    found = named(literal_etris.etris(weights, config, case["image"], case["input_ids"]))
    assert max(far(found[name], case[name]) for name in OUTPUTS) < 5e-5
    training = literal_etris.etris(weights, config, case["image"], case["input_ids"], train=True)
    assert loss_of(training["logits"], case["target_mask"]).item() == pytest.approx(case["loss"].item(), rel=2e-6)


UNSEEN: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "ResNet, two bridges, wide and with many heads": ((64, 128), {"multi_stage": 2, "ladder_dim": 24, "nhead": 6}),
    "ResNet, one bridge": ((96, 64), {"multi_stage": 1, "num_layers": 3, "num_head": 2}),
    "ResNet, all meet at stride 32": ((128, 64), {"stride": [4, 2, 1], "text_layers": 6}),
    "ViT, two bridges, other size": ((48, 80), {"vit": True, "multi_stage": 2, "nhead": 4, "dim_ffn": 40}),
    "ViT, the size of its positions": ((64, 64), {"vit": True, "ladder_dim": 12, "nhead": 3, "text_layers": 6}),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_unseen_configurations(name: str) -> None:
    size, changes = UNSEEN[name]
    c = configuration(**changes)
    weights = literal_etris.random_weights(c, seed=len(name))
    model = ETRIS(**arguments(c)).eval()
    load_official(model, weights)
    torch.manual_seed(0)
    images, ids = torch.randn(3, 3, *size), torch.randint(3, 18, (3, 10))
    ids[:, 7] = 19  # the end
    ids[:, 8:] = 0
    positions = "backbone.visual.positional_embedding"
    if positions in weights:  # the official code resizes them once, before it runs
        weights = weights | {positions: resized(weights[positions], size)}
    expected = named(literal_etris.etris(weights, c, images, ids))
    with torch.no_grad():
        ours = everything(model, images, ids)
    assert expected["logits"].std() > 0.05, "a flat map would hide mistakes"
    for key, value in expected.items():
        assert far(ours[key], value) < 2e-5 * max(1, value.abs().max().item()), key

    training = literal_etris.etris(weights, c, images, ids, train=True)["logits"]
    without_dropout(model).double()  # batch statistics of a few pixels make single precision worth little
    with torch.no_grad():
        assert far(logits_of(model, images.double(), ids), training) < 1e-6 * training.abs().max().item()


def resized(table: Tensor, size: tuple[int, int]) -> Tensor:
    grid = table[1:].T.reshape(1, -1, 4, 4)
    grid = F.interpolate(grid, (size[0] // 16, size[1] // 16), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], grid[0].flatten(1).T])


@pytest.mark.parametrize("vit", [False, True])
def test_gradients_of_an_unseen_configuration(vit: bool) -> None:
    c = configuration(vit, multi_stage=2)
    weights = literal_etris.random_weights(c, seed=7)
    model = ETRIS(**arguments(c), freeze_clip=False)
    load_official(model, weights)
    without_dropout(model)
    torch.manual_seed(1)
    images, ids = torch.randn(3, 3, 64, 64), torch.randint(3, 18, (3, 10))
    ids[:, 6], ids[:, 7:] = 19, 0
    masks = torch.rand(3, 64, 64) < 0.3
    loss_of(logits_of(model.double(), images.double(), ids), masks).backward()
    leaves = {
        name: value.double().requires_grad_() if value.is_floating_point() else value for name, value in weights.items()
    }
    loss_of(literal_etris.etris(leaves, c, images, ids, train=True)["logits"], masks).backward()
    parameters = dict(model.named_parameters())
    compared = 0
    for name, leaf in leaves.items():
        new = [new for new in rename(name, ETRIS_RULES) or [] if new in parameters]
        if not new:
            continue
        assert all(parameters[each].grad is not None for each in new), name
        gradient = torch.cat([parameters[each].grad for each in new])
        assert leaf.grad is not None, name
        expected = leaf.grad.chunk(3)[2] if "neck.fusion" in name and "in_proj" in name else leaf.grad
        # Relative to the largest: the decoder's positions have single precision.
        assert far(gradient, expected) < 1e-6 * max(1, expected.abs().max().item()), name
        compared += len(new)
    assert compared == len(parameters)


@pytest.fixture(scope="module", params=[False, True], ids=["ResNet", "ViT"])
def model(request: pytest.FixtureRequest) -> ETRIS:
    return small_etris(vit=request.param)


@torch.no_grad()
def test_many_expressions_per_image_equal_one_at_a_time(model: ETRIS) -> None:
    check_many_expressions(model, 1)


@torch.no_grad()
def test_the_length_of_a_batch_changes_nothing(model: ETRIS) -> None:
    """The bridges see the padding, as published; so it always has the length of the training."""
    images = torch.randn(1, 3, 64, 64)
    results = []
    for pad_to in (5, 6, 10, 14):
        batch = batch_of(model, images, ["the red circle"], [0], pad_to=pad_to)
        ids = torch.where(batch.attention_mask == 1, batch.input_ids, 7)  # whatever stands in the padding
        results.append(model(Batch(images, ids, batch.attention_mask, batch.image_index)))
        assert torch.equal(results[0], results[-1])


@torch.no_grad()
@pytest.mark.parametrize("vit", [False, True])
def test_the_image_is_encoded_once_as_far_as_no_word_is_needed(vit: bool) -> None:
    for fused in (1, 2, 3):
        model = small_etris(vit, multi_stage=fused)
        runs = []
        visual = model.encoders.clip.visual
        blocks = list(visual.blocks) if vit else [visual.layer2, visual.layer3, visual.layer4]
        for block in blocks:
            block.register_forward_hook(lambda _, __, out, runs=runs: runs.append(len(out)))
        model(batch_of(model, torch.randn(1, 3, 64, 64), ["left", "right"], [0, 0]))
        assert runs == [1] * (4 - fused) + [2] * (fused - 1)


@torch.no_grad()
def test_uint8_images_are_normalized(model: ETRIS) -> None:
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    raw = model(batch_of(model, images, ["left"], [0]))
    assert torch.equal(raw, model(batch_of(model, model.preprocess.normalize(images), ["left"], [0])))


@torch.no_grad()
def test_token_features_are_those_of_every_expression(model: ETRIS) -> None:
    batch = batch_of(model, torch.randn(2, 3, 64, 96), ["the red circle", "left", "right"], [1, 0, 1])
    patches, words = model.token_features(batch)
    vit = model.config["clip"]["vision_patch_size"] is not None
    assert patches.shape == ((3, 4, 6, 24) if vit else (3, 2, 3, 24))
    assert words.shape == (3, batch.input_ids.shape[1], 32)
    ids, _ = model._whole(batch.input_ids, batch.attention_mask)
    maps, found, _ = model.encoders(model.encode_image(batch.images), ids, batch.image_index)
    assert torch.equal(patches, maps[2].permute(0, 2, 3, 1))
    assert torch.equal(words, found[:, : words.shape[1]])
    longer = batch_of(model, batch.images, ["the red circle", "left", "right"], [1, 0, 1], pad_to=13)
    again, padded = model.token_features(longer)
    assert torch.equal(again, patches)
    assert torch.equal(padded[:, : words.shape[1]], words)
    assert padded.shape[1] == 13


def test_what_learns() -> None:
    for vit in (False, True):
        frozen, free = small_etris(vit), small_etris(vit, freeze_clip=False)
        clip = {name for name, p in frozen.encoders.clip.named_parameters() if p.requires_grad}
        visual = "visual.positional_embedding" if vit else "visual.attnpool.positional_embedding"
        assert clip == {"text.positional_embedding", visual}
        assert all(p.requires_grad for part in (frozen.encoders.bridger, frozen.neck, frozen.decoder, frozen.proj)
                   for p in part.parameters())  # fmt: skip
        assert all(p.requires_grad for p in free.parameters())
        for model in (frozen, free):
            model.train()
            batch = batch_of(model, torch.randn(2, 3, 64, 64), ["the red circle", "left of the square"], [0, 1])
            logits = model(batch)
            (logits * torch.randn_like(logits)).sum().backward()
            wrong = [name for name, p in model.named_parameters() if (p.grad is None) is p.requires_grad]
            assert wrong == []


def test_parameter_groups_hold_what_learns_once() -> None:
    for changes in ({}, {"freeze_clip": False, "encoder_lr": 0.1}):
        model = small_etris(**changes)
        groups = model.parameter_groups(lr=1.0, weight_decay=0.5)
        held = [id(parameter) for group in groups for parameter in group["params"]]
        assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
        assert bool(groups[0]["params"]) is bool(changes), "nothing of a frozen CLIP is slow: its positions are not"
        assert [group["lr"] for group in groups] == [0.1 if changes else 1.0, 1.0]
        assert {group["weight_decay"] for group in groups} == {0.5}


def test_statistics_of_the_frozen_encoder_drift_unless_they_are_frozen_too() -> None:
    images = 3 + torch.randn(2, 3, 64, 64)
    for freeze in (False, True):
        model = small_etris(freeze_statistics=freeze).train()
        before = {name: value.clone() for name, value in model.named_buffers()}
        model(batch_of(model, images, ["left", "right"], [0, 1]))
        moved = {name for name, value in model.named_buffers() if not torch.equal(value, before[name])}
        assert any(name.startswith("encoders.clip.") for name in moved) is not freeze
        assert any(name.startswith("neck.") for name in moved)
        assert not model.eval().encoders.clip.visual.bn1.training
        assert model.train().encoders.clip.visual.bn1.training is not freeze
    assert model.has_batch_statistics


def test_saved_and_loaded(model: ETRIS, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    again = ETRIS.from_pretrained(tmp_path)
    batch = batch_of(model, torch.randn(1, 3, 64, 64), ["the red circle"], [0])
    with torch.no_grad():
        assert torch.equal(model(batch), again(batch))
    assert again.config == model.config
    assert {n for n, p in again.named_parameters() if p.requires_grad} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }
    assert isinstance(load_model(tmp_path), ETRIS)


@pytest.mark.parametrize("vit", [False, True])
def test_published_clip_in_a_file(tmp_path: Path, vit: bool) -> None:
    """OpenAI's file of another size: positions of a transformer are resized once, defaults fit the kind."""
    c = configuration(vit)
    weights = {
        name.removeprefix("backbone."): value
        for name, value in literal_etris.random_weights(c, 3).items()
        if name.startswith("backbone.") and "connect" not in name
    }
    torch.save(weights, tmp_path / "clip.pt")
    model = ETRIS(str(tmp_path / "clip.pt"), tokenizer=["left"], num_head=4, preprocess={"height": 96, "width": 96})
    side = model.config["clip"]["image_resolution"]
    assert side == (96 if vit else 64)
    assert (model.config["nhead"], model.config["stride"]) == ((8, [1, 1, 1]) if vit else (4, [2, 1, 2]))
    assert model.preprocess.size == (96, 96)
    with torch.no_grad():
        assert model.eval()(batch_of(model, torch.randn(1, 3, 96, 96), ["left"], [0])).shape == (1, 1, 24, 24)
    conv = model.encoders.clip.visual.conv1.weight
    assert torch.equal(conv, weights["visual.conv1.weight"])


@pytest.mark.parametrize(
    ("vit", "changes", "message"),
    [
        (False, {"multi_stage": 0}, "Of 3 stages 1 to 3 can be fused, not 0"),
        (False, {"multi_stage": 4}, "Of 3 stages 1 to 3 can be fused, not 4"),
        (False, {"stride": [1, 1, 1]}, r"meet at 8, 16 and 32 pixels per cell.*\[2, 1, 2\] for a ResNet"),
        (True, {"stride": [2, 1, 2]}, r"meet at 32, 16 and 8 pixels per cell"),
        (False, {"stride": [2, 1]}, r"stride needs 3 positive numbers, not \[2, 1\]"),
        (False, {"ladder_dim": 9, "nhead": 2}, "The bridges' width 9 must be a multiple of their 2 heads"),
        (False, {"num_head": 3}, "multiple of 4 and of its 3 heads"),
        (False, {"clip": configuration(text_layers=4)["clip"]}, "4 blocks of the text encoder can't be dealt out"),
    ],
)
def test_contradictions_are_named(vit: bool, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_etris(vit, **changes)


@pytest.mark.parametrize(("vit", "size", "divisor"), [(False, (64, 48), 32), (True, (64, 40), 16)])
def test_sizes_that_do_not_fit_are_refused(vit: bool, size: tuple[int, int], divisor: int) -> None:
    model = small_etris(vit)
    with pytest.raises(ValueError, match=rf"must be multiples of {divisor} pixels for this model, not 64 x {size[1]}"):
        model.encode_image(torch.zeros(1, 3, *size))


def test_the_dropout_is_that_of_decoder_and_bridges() -> None:
    model = small_etris(dropout=0.25)
    rates = {module.p for module in model.modules() if isinstance(module, nn.Dropout)}
    rates |= {module.dropout for part in (model.decoder, model.encoders.bridger) for module in part.modules()
              if isinstance(module, nn.MultiheadAttention)}  # fmt: skip
    assert rates == {0.25}
    assert {m.dropout for m in model.encoders.clip.modules() if isinstance(m, CLIPAttention)} == {0.0}
