"""What a user of LAVT relies on, whatever the weights."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from models.expressions import batch_of, check_many_expressions
from models.small import BERT, SWIN, WORDS
from torch import nn

from maskris.models.base import evaluation_mode
from maskris.models.lavt import LAVT, PixelWordFusion
from maskris.models.loading import load_model


def small_lavt(seed: int = 0, **changes: Any) -> LAVT:
    """In evaluation mode; every call with the same seed gives the same weights."""
    torch.manual_seed(seed)
    arguments: dict[str, Any] = {
        "vision": SWIN,
        "text": BERT,
        "trained_text_layers": None,
        "tokenizer": WORDS,
        "max_tokens": 10,
        "preprocess": {"height": 64, "width": 64},
    }
    return LAVT(**(arguments | changes)).eval()


@pytest.fixture(scope="module")
def model() -> LAVT:
    """With weights under which words, pixels and gates matter."""
    model = small_lavt(fusion_heads=[1, 2, 4, 8])
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=1.5 / parameter[0].numel() ** 0.5)
    return model


@torch.no_grad()
def test_many_expressions_per_image_equal_one_at_a_time(model: LAVT) -> None:
    check_many_expressions(model, 2, tolerance=1e-3, least=0.1)


@torch.no_grad()
def test_padding_the_text_changes_nothing(model: LAVT) -> None:
    model = copy.deepcopy(model).double()
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    results = []
    for pad_to in (5, 6, 10, 20):
        tokens = model.tokenizer(["the red circle"], pad_to=pad_to)
        ids = torch.where(tokens.attention_mask == 1, tokens.input_ids, 7)  # whatever stands in the padding
        results.append(model.segment(images, ids, tokens.attention_mask, torch.tensor([0])))
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, atol=1e-10, rtol=1e-8)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (33, 70), (32, 32), (1, 1), (5, 130)])
def test_any_image_size(model: LAVT, size: tuple[int, int]) -> None:
    logits = model(batch_of(model, torch.randn(1, 3, *size), ["left"], [0]))
    assert logits.shape == (1, 2, -(-size[0] // 4), -(-size[1] // 4))
    assert torch.isfinite(logits).all()
    assert model.upsample(logits, size).shape == (1, 2, *size)


def test_nothing_is_encoded_before_the_words_are_known(model: LAVT) -> None:
    images = torch.randn(1, 3, 8, 8)
    assert model.encode_image(images) is images


@torch.no_grad()
def test_the_next_stage_reads_what_the_words_changed(model: LAVT) -> None:
    """With closed gates the words reach the maps of all stages, but not the features on which the stages work."""
    closed = copy.deepcopy(model)
    for gate in closed.gates:
        gate.outer.weight.zero_()
    batch = batch_of(model, torch.randn(1, 3, 64, 64), ["the red circle"], [0])
    words = model.encode_text(batch.input_ids, batch.attention_mask)
    opened, shut = (m.fuse(batch.images, words, batch.attention_mask) for m in (model, closed))
    assert torch.equal(opened[0], shut[0]), "the first gate comes after the first map"
    assert all((a - b).abs().max() > 0.01 for a, b in zip(opened[1:], shut[1:], strict=True))


@torch.no_grad()
def test_heads_share_the_scale_of_all_channels() -> None:
    """Doubling a head's scores by its narrower scale would be the usual attention; the published one divides by √C."""
    torch.manual_seed(0)
    fusion = PixelWordFusion(8, 6, heads=2, dropout=0.0).double()
    pixels, words = torch.randn(1, 8, 5, dtype=torch.float64), torch.randn(1, 3, 6, dtype=torch.float64)
    q = torch.nn.functional.instance_norm(fusion.query(pixels))[0].T.reshape(5, 2, 4)  # [S, heads, c]
    k, v = (conv(words.transpose(1, 2))[0].T.reshape(3, 2, 4) for conv in (fusion.key, fusion.value))
    weights = (torch.einsum("shc,lhc->hsl", q, k) / 8**0.5).softmax(-1)
    gathered = torch.einsum("hsl,lhc->shc", weights, v).reshape(5, 8)
    expected = torch.nn.functional.instance_norm(fusion.output(gathered.T[None]))
    torch.testing.assert_close(fusion.attend(pixels, words, torch.ones(1, 3)), expected)


@torch.no_grad()
def test_values_that_all_words_share_drown_nothing() -> None:
    """The instance norm takes them out; in single precision their rounding must not be taken for a difference."""
    torch.manual_seed(0)
    fusion = PixelWordFusion(16, 8, heads=1, dropout=0.0)
    pixels, words, mask = torch.randn(1, 16, 100), torch.randn(1, 6, 8), torch.tensor([[1, 1, 1, 1, 0, 0]])
    fusion.key.weight.mul_(0.01)  # pixels hardly differ in what they gather
    fusion.output.bias.zero_()
    exact = copy.deepcopy(fusion).double().attend(pixels.double(), words.double(), mask)
    assert exact.std() > 0.1
    fusion.value.bias.add_(10.0)
    assert (fusion.attend(pixels, words, mask) - exact).abs().max() < 1e-2


@torch.no_grad()
def test_an_expression_of_nothing_is_no_accident(model: LAVT) -> None:
    batch = batch_of(model, torch.randn(1, 3, 64, 64), [""], [0])
    assert torch.isfinite(model(batch)).all()
    nothing = torch.zeros_like(batch.attention_mask)
    fused = model.fusions[0](torch.randn(1, 8, 4, 4), torch.randn(1, nothing.shape[1], 24), nothing)
    assert torch.isfinite(fused).all()


def test_every_parameter_learns() -> None:
    model = small_lavt(fusion_heads=[1, 1, 2, 2], fusion_dropout=0.1).train()
    logits = model(batch_of(model, torch.randn(2, 3, 64, 64), ["the red circle", "left of the square"], [0, 1]))
    (logits * torch.randn_like(logits)).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(("trained", "learning"), [(None, 99), (1, 1), (0, 0), (10, 2)])
def test_layers_of_the_text_encoder_that_learn(trained: int | None, learning: int) -> None:
    model = small_lavt(trained_text_layers=trained)
    names = {name for name, parameter in model.text.named_parameters() if parameter.requires_grad}
    expected = {
        name
        for name, _ in model.text.named_parameters()
        if learning == 99 or any(f"encoder.layer.{i}." in name for i in range(learning))
    }
    assert names == expected
    assert model.config["trained_text_layers"] == trained
    (held,) = (group["params"] for group in model.parameter_groups(1.0, 0.0) if group["name"] == "text")
    assert {id(parameter) for parameter in held} == {
        id(parameter) for name, parameter in model.text.named_parameters() if name in names
    }


def test_parameter_groups_hold_everything_that_learns_once(model: LAVT) -> None:
    groups = model.parameter_groups(lr=1.0, weight_decay=0.5)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in groups] == [
        *[("vision, no decay", 1.0, 0.0), ("vision", 1.0, 0.5)],
        *[("fusion", 1.0, 0.5), ("decoder", 1.0, 0.5), ("text", 1.0, 0.5)],
    ]
    torch.optim.AdamW(groups)


@torch.no_grad()
def test_features_of_patches_and_words(model: LAVT) -> None:
    batch = batch_of(
        model, torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8), ["left", "red", "blue"], [1, 0, 1]
    )
    patches, words = model.token_features(batch)
    assert patches.shape == (3, 2, 3, 64)
    assert words.shape == (3, batch.input_ids.shape[1], 24)
    images = model.preprocess.normalize(batch.images)[batch.image_index]
    assert torch.equal(patches.movedim(-1, 1), model.fuse(images, words, batch.attention_mask)[3])


def test_drop_path_and_dropout() -> None:
    model = small_lavt(drop_path=0.3, fusion_dropout=0.2)
    blocks = [module for module in model.vision.modules() if hasattr(module, "layernorm_before")]
    assert [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks] == pytest.approx(
        [0.3 * i / 4 for i in range(5)]
    )
    assert {module.p for module in model.fusions.modules() if isinstance(module, nn.Dropout)} == {0.2}
    batch = batch_of(model, torch.randn(2, 3, 64, 64), ["left", "right"], [0, 1])
    with torch.no_grad():
        assert torch.equal(model(batch), model(batch))
        model.train()
        assert not torch.equal(model(batch), model(batch))


def test_the_text_encoder_drops_nothing_out_as_published() -> None:
    model = small_lavt(trained_text_layers=1).train()
    assert model.training
    assert not model.text.training
    assert model.vision.training
    batch = batch_of(model, torch.randn(2, 3, 64, 64), ["the red circle", "left"], [0, 1])
    features = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        features.append(model.encode_text(batch.input_ids, batch.attention_mask))
        assert torch.equal(features[-1], features[0])
    model(batch).sum().backward()
    learned = {name for name, parameter in model.text.named_parameters() if parameter.grad is not None}
    assert learned == {name for name, parameter in model.text.named_parameters() if ".layer.0." in name}
    assert all(parameter.grad.abs().max() > 0 for parameter in model.text.parameters() if parameter.grad is not None)
    with evaluation_mode(model):
        assert not model.training
    assert (model.training, model.decoder.training, model.text.training) == (True, True, False)


def test_dropout_of_the_text_encoder_can_be_had(tmp_path: Path) -> None:
    model = small_lavt(text_dropout=True).train()
    assert model.text.training
    ids, mask = torch.tensor([[2, 5, 6, 3]]), torch.ones(1, 4, dtype=torch.long)
    assert not torch.equal(model.encode_text(ids, mask), model.encode_text(ids, mask))
    assert not model.eval().text.training
    model.save_pretrained(tmp_path)
    assert LAVT.from_pretrained(tmp_path).train().text.training
    fresh = LAVT(**(model.config | {"tokenizer": WORDS, "text_dropout": False}))
    assert (fresh.training, fresh.text.training) == (True, False), "before anybody calls train()"


def test_batch_statistics_are_noticed(model: LAVT) -> None:
    assert model.has_batch_statistics


def test_saved_and_loaded(model: LAVT, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_class"] == "LAVT"
    assert config["fusion_heads"] == [1, 2, 4, 8]
    assert config["vision"]["model_type"] == "swin"
    loaded = load_model(tmp_path)
    assert isinstance(loaded, LAVT)
    assert loaded.config == model.config
    batch = batch_of(model, torch.randn(1, 3, 64, 64), ["the red circle"], [0])
    with torch.no_grad():
        assert torch.equal(model(batch), loaded(batch))


def test_the_default_input_is_480_pixels_stretched() -> None:
    model = small_lavt(preprocess=None)
    assert model.preprocess.size == (480, 480)
    assert model.preprocess.to_dict()["resize"] == "stretch"


def test_logits_are_upsampled_corner_to_corner(model: LAVT) -> None:
    logits = torch.tensor([[[[0.0, 1.0]]]])
    assert model.upsample(logits, (1, 5))[0, 0, 0].tolist() == [0, 0.25, 0.5, 0.75, 1]


STATE = {  # a checkpoint of today must open tomorrow
    "vision.backbone.swin.encoder.layers.1.blocks.1.attention.q_proj.weight": (16, 16),
    "vision.backbone.hidden_states_norms.stage4.weight": (64,),
    "text.model.encoder.layer.1.attention.self.query.weight": (24, 24),
    "fusions.3.visual.weight": (64, 64, 1),
    "fusions.3.key.weight": (64, 24, 1),
    "fusions.0.merge.bias": (8,),
    "gates.2.outer.weight": (32, 32),
    "decoder.blocks.0.0.weight": (32, 96, 3, 3),
    "decoder.blocks.2.4.running_mean": (32,),
    "decoder.last.weight": (2, 32, 1, 1),
}


def test_names_in_checkpoints_are_stable(model: LAVT) -> None:
    state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert STATE.items() <= state.items()
    assert {name.split(".")[0] for name in state} == {"vision", "text", "fusions", "gates", "decoder"}
    assert len(model.gates) == 3, "the fourth would be dead"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion_heads": [1, 1, 1]}, r"fusion_heads needs four numbers, one for each stage, not \[1, 1, 1\]"),
        ({"fusion_heads": [3, 1, 1, 1]}, "must divide the channels of their stage: 3 does not divide 8"),
        ({"fusion_heads": [0, 1, 1, 1]}, "must divide the channels of their stage: 0"),
        ({"trained_text_layers": -1}, "trained_text_layers must be at least 0, or null for everything, not -1"),
        ({"tokenizer": None}, "needs a tokenizer"),
        ({"vision": {"model_type": "bert"}}, "bert is not among the backbones"),
        ({"preprocess": {"size": 64}}, "Preprocess has no size"),
    ],
)
def test_arguments_that_contradict_each_other(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_lavt(**changes)


BACKBONES: dict[str, dict[str, Any]] = {
    "convnext": {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1]},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1], "layer_type": "basic"},
    "pvt_v2": {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]},
    "dinov2": {"hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 2, "image_size": 56},
}


@pytest.mark.parametrize("kind", BACKBONES)
def test_other_backbones(kind: str) -> None:
    model = small_lavt(vision={"model_type": kind, **BACKBONES[kind]}).train()
    images = torch.randn(2, 3, 56, 70)
    logits = model(batch_of(model, images, ["left", "the red circle"], [0, 1]))
    assert logits.shape[:2] == (2, 2)
    logits.square().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("kind", ["roberta", "distilbert"])
def test_other_text_encoders(kind: str) -> None:
    source = BERT | {"model_type": kind, "pad_token_id": 0}
    if kind == "distilbert":
        source = {"model_type": kind, "vocab_size": 40, "dim": 24, "n_layers": 3, "n_heads": 2, "hidden_dim": 32}
    model = small_lavt(text=source, trained_text_layers=1)
    learning = {name for name, parameter in model.text.named_parameters() if parameter.requires_grad}
    assert learning == {name for name, _ in model.text.named_parameters() if ".layer.0." in name} != set()
    with torch.no_grad():
        assert model(batch_of(model, torch.randn(1, 3, 64, 64), ["left"], [0])).shape == (1, 2, 16, 16)


@torch.no_grad()
def test_mixed_precision_stays_close() -> None:
    model = small_lavt()
    batch = batch_of(model, torch.randn(2, 3, 64, 64), ["the red circle", "left"], [0, 1])
    exact = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(batch)
    assert torch.isfinite(mixed).all()
    assert (mixed.float() - exact).abs().max() < 0.1 * exact.abs().max()
