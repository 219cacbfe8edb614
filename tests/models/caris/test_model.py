"""What a user of CARIS relies on, whatever the weights."""

import copy
from typing import Any

import pytest
import torch
from models import families
from models.expressions import batch_of, check_many_expressions
from models.families import vision
from models.small import SWIN, small_caris
from torch import nn

from maskris.models.caris.model import CARIS


@pytest.fixture(scope="module")
def model() -> CARIS:
    """With weights under which words and pixels matter, which they hardly do before training."""
    model = small_caris()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "gamma" not in name:
            nn.init.normal_(parameter, std=1.5 / parameter[0].numel() ** 0.5)
    return model


@torch.no_grad()
def test_many_expressions_per_image_equal_one_at_a_time(model: CARIS) -> None:
    check_many_expressions(model, 2, least=1e-3)


@torch.no_grad()
def test_padding_the_text_changes_nothing(model: CARIS) -> None:
    model = copy.deepcopy(model).double()  # in single precision the order of a sum alone makes 2e-5
    features = model.encode_image(torch.randn(1, 3, 64, 64, dtype=torch.float64))
    results = []
    for pad_to in (5, 6, 10, 20):
        tokens = model.tokenizer(["the red circle"], pad_to=pad_to)
        ids = torch.where(tokens.attention_mask == 1, tokens.input_ids, 7)  # whatever stands in the padding
        results.append(model.segment(features, ids, tokens.attention_mask, torch.tensor([0])))
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, atol=1e-10, rtol=1e-8)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (33, 70), (100, 36), (32, 32), (1, 1), (5, 130)])
def test_any_image_size(size: tuple[int, int]) -> None:
    model = small_caris(width=64)
    logits = model(batch_of(model, torch.randn(1, 3, *size), ["left"], [0]))
    assert logits.shape == (1, 2, -(-size[0] // 4), -(-size[1] // 4))
    assert torch.isfinite(logits).all()
    assert model.upsample(logits, size).shape == (1, 2, *size)


@torch.no_grad()
def test_uint8_images_are_normalized(model: CARIS) -> None:
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    raw = model(batch_of(model, images, ["left"], [0]))
    normalized = model(batch_of(model, model.preprocess.normalize(images), ["left"], [0]))
    assert torch.equal(raw, normalized)


def test_logits_are_upsampled_corner_to_corner(model: CARIS) -> None:
    logits = torch.tensor([[[[0.0, 1.0]]]])
    assert model.upsample(logits, (1, 5))[0, 0, 0].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert model.upsample(logits, (1, 2)) is logits


def test_every_parameter_learns() -> None:
    for changes in ({}, {"levels": 2, "layers": 2}, {"levels": 4, "prompt_levels": [3]}):
        model = small_caris(**changes).train()
        logits = model(batch_of(model, torch.randn(2, 3, 64, 64), ["the red circle", "left of the square"], [0, 1]))
        (logits * torch.randn_like(logits)).sum().backward()
        # An attention's key bias moves all scores of a query alike: its gradient is zero but for rounding.
        dead = [name for name, parameter in model.named_parameters() if parameter.grad is None]
        assert dead == []


def test_the_classes_of_drop_path_and_dropout_are_those_published() -> None:
    model = small_caris(drop_path=0.3)
    blocks = [module for module in model.vision.modules() if hasattr(module, "layernorm_before")]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.3 * i / 4 for i in range(5)])
    assert all(block.mlp.drop_path is block.drop_path for block in blocks), "both residuals drop at the same rate"
    assert {module.p for module in model.text.modules() if isinstance(module, nn.Dropout)} == {0.1}
    assert not [module for module in model.decoder.modules() if isinstance(module, nn.Dropout) and module.p]


def test_drop_path_drops_both_residuals() -> None:
    """At rate 1 - ε the last block must be the identity; with the MLP kept, it would not be."""
    model = small_caris(drop_path=0.999999).train()
    block = [module for module in model.vision.modules() if hasattr(module, "layernorm_before")][-1]
    x = torch.randn(1, 4, 64)
    assert torch.equal(block(x, (2, 2), always_partition=True)[0], x)
    block.eval()
    assert not torch.equal(block(x, (2, 2), always_partition=True)[0], x)


def test_training_draws_and_evaluation_does_not() -> None:
    model = small_caris(drop_path=0.5)
    batch = batch_of(model, torch.randn(1, 3, 64, 64), ["left"], [0])
    with torch.no_grad():
        assert torch.equal(model(batch), model(batch))
        model.train()
        assert not torch.equal(model(batch), model(batch))
        torch.manual_seed(3)
        first = model(batch)
        torch.manual_seed(3)
        assert torch.equal(first, model(batch))


def test_parameter_groups_hold_every_parameter_once(model: CARIS) -> None:
    groups = model.parameter_groups(lr=1.0, weight_decay=0.5)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    assert [group["name"] for group in groups] == [
        *("text, no decay", "text", "vision, no decay", "vision", "decoder, no decay", "decoder")
    ]
    torch.optim.AdamW(groups)


STATE = {  # a checkpoint of today must open tomorrow
    "vision.backbone.swin.embeddings.patch_embeddings.projection.weight": (8, 3, 4, 4),
    "vision.backbone.swin.encoder.layers.1.blocks.1.attention.q_proj.weight": (16, 16),
    "vision.backbone.swin.encoder.layers.1.blocks.1.attention.relative_position_bias.relative_position_bias_table": (
        49,
        2,
    ),
    "vision.backbone.swin.encoder.layers.0.downsample.reduction.weight": (16, 32),
    "vision.backbone.hidden_states_norms.stage4.weight": (64,),
    "text.model.embeddings.word_embeddings.weight": (40, 24),
    "text.model.encoder.layer.1.attention.self.query.weight": (24, 24),
    "conditional_prompts.in_linears.1.weight": (24, 64),
    "conditional_prompts.lang_prompts.weight": (5, 24),
    "decoder.input_convs.0.0.weight": (32, 64, 1, 1),
    "decoder.layers.0.vis_self_attn.sampling_offsets.weight": (48, 32),
    "decoder.layers.0.v2l_cross_attn.q_proj.weight": (128, 32),
    "decoder.layers.0.lang_mlp.2.weight": (32, 128),
    "decoder.lateral_convs.0.0.weight": (32, 8, 1, 1),
    "decoder.lang_embed.4.bias": (32,),
    "decoder.mask_feature.4.weight": (32, 32, 1, 1),
    "decoder.vis_prompts.weight": (5, 32),
}


def test_names_in_checkpoints_are_stable(model: CARIS) -> None:
    state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert STATE.items() <= state.items()
    assert len(state) == 244
    assert {name.split(".")[0] for name in state} == {"vision", "text", "conditional_prompts", "decoder"}
    assert sum(value.numel() for value in model.parameters()) == 189_771


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": 5}, "levels must be 1 to 4"),
        ({"levels": 0}, "levels must be 1 to 4"),
        ({"width": 30}, "width must be a multiple of 4"),
        ({"width": 36, "heads": 8, "attention_ratio": 1}, "must be a multiple of"),
        ({"tokenizer": None}, "needs a tokenizer"),
        ({"vision": {"embed_dim": 8}}, r"needs its model_type.*got \['embed_dim'\]"),
        ({"vision": {"model_type": "bert"}}, "bert is not among the backbones"),
        ({"vision": {"model_type": "swin", "embed_dm": 8}}, "A configuration of swin has no key embed_dm"),
        ({"vision": SWIN | {"out_features": ["stage1", "stage4"]}}, "swin gives 2 feature maps; four are needed"),
        ({"text": {"model_type": "gpt2", "n_layer": 1, "n_embd": 24, "n_head": 2}}, "gpt2 cannot be the text encoder"),
        ({"preprocess": {"size": 64}}, "Preprocess has no size"),
    ],
)
def test_arguments_that_contradict_each_other(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_caris(**changes)


def test_batch_norm_in_a_backbone_is_noticed(model: CARIS) -> None:
    assert not model.has_batch_statistics
    assert small_caris(vision=vision("resnet")).has_batch_statistics


def test_models_can_be_copied_and_moved(model: CARIS) -> None:
    twin = copy.deepcopy(model)
    batch = batch_of(model, torch.randn(1, 3, 64, 64), ["left"], [0])
    with torch.no_grad():
        assert torch.equal(model(batch), twin(batch))


@pytest.mark.parametrize("cast", [torch.bfloat16])
def test_mixed_precision_stays_close(model: CARIS, cast: torch.dtype) -> None:
    torch.manual_seed(0)
    batch = batch_of(model, torch.randn(2, 3, 64, 64), ["the red circle", "left"], [0, 1])
    with torch.no_grad():
        exact = model(batch)
        with torch.autocast("cpu", dtype=cast):
            mixed = model(batch)
    assert torch.isfinite(mixed).all()
    assert (mixed.float() - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize("changes", [{}, {"vision": families.vision("swinv2")}], ids=["swin", "swinv2"])
def test_checkpointing_changes_no_gradient(changes: dict[str, Any]) -> None:
    """Dropped paths and dropout are drawn again as they were."""
    results = []
    for gradient_checkpointing in (False, True):
        model = small_caris(**changes, drop_path=0.5, layers=2, gradient_checkpointing=gradient_checkpointing).train()
        assert model.gradient_checkpointing is gradient_checkpointing
        batch = batch_of(model, torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), ["left"], [0])
        kept: list[int] = []
        torch.manual_seed(5)
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: (kept.append(x.numel()), x)[1], lambda x: x):
            loss = model(batch).square().sum()
        loss.backward()
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results.append((loss.item(), sum(kept), grads))
    (loss, kept, grads), (loss_again, kept_again, grads_again) = results
    assert loss == loss_again
    assert grads.keys() == grads_again.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grads_again[name], grad, atol=1e-6, rtol=1e-5, msg=name)
    assert kept_again < 0.7 * kept


def test_backbones_that_cannot_checkpoint_say_so() -> None:
    with pytest.raises(ValueError, match="A convnext has no gradient checkpointing"):
        small_caris(vision=families.vision("convnext"), gradient_checkpointing=True)


@torch.no_grad()
def test_the_order_of_expressions_changes_nothing(model: CARIS) -> None:
    """Bit for bit, in one batch: no expression knows its neighbors."""
    images = torch.randn(2, 3, 64, 64)
    expressions, index = ["the red circle", "left", "blue square", "right circle"], [1, 0, 1, 0]
    logits = model(batch_of(model, images, expressions, index))
    order = [2, 0, 3, 1]
    shuffled = model(batch_of(model, images, [expressions[i] for i in order], [index[i] for i in order]))
    assert torch.equal(shuffled, logits[order])
