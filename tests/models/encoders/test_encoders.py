"""Encoders of all families: what models may rely on, whatever the family."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from models.families import KIN, STRIDES, TEXT, VISION, text, vision
from models.small import BERT, SWIN, small_caris
from torch import Tensor
from transformers import AutoConfig, AutoModel, CLIPConfig, CLIPModel, CLIPTokenizer

from maskris.models.caris.model import CARIS
from maskris.models.encoders.text import TextEncoder
from maskris.models.encoders.vision import VisionEncoder

IDS = torch.tensor([[2, 5, 6, 7, 8, 3], [2, 9, 5, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])


def lively(kind: str) -> TextEncoder:
    """An encoder whose words matter to each other, in double precision."""
    torch.manual_seed(0)
    encoder = TextEncoder(text(kind)).eval().double()
    for parameter in encoder.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.0 / parameter.shape[1] ** 0.5)
    return encoder


def prompts(seed: int = 0) -> Tensor:
    return torch.randn(2, 3, 24, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize("kind", [*TEXT, *KIN])
def test_text(kind: str) -> None:
    encoder = lively(kind)
    alone = encoder(IDS, MASK)
    own = encoder.model(input_ids=IDS, attention_mask=MASK).last_hidden_state
    torch.testing.assert_close(alone[MASK == 1], own[MASK == 1], atol=1e-12, rtol=0)  # nothing joined: nothing changed

    joined = encoder(IDS, MASK, prompts())
    assert joined.shape == (2, 9, encoder.width)
    # Extra vectors are visible to every word, and their order means nothing: they have no position.
    assert (joined[:, :6] - encoder(IDS, MASK, prompts(1))[:, :6]).abs().amax(2)[MASK == 1].min() > 1e-3
    shuffled = encoder(IDS, MASK, prompts()[:, [2, 0, 1]])
    torch.testing.assert_close(joined[:, :6][MASK == 1], shuffled[:, :6][MASK == 1], atol=1e-10, rtol=0)
    # Neither the amount of padding nor what stands in it matters.
    longer = torch.cat([IDS.masked_fill(MASK == 0, 7), torch.full((2, 5), 7)], dim=1)
    padded = encoder(longer, torch.cat([MASK, torch.zeros(2, 5, dtype=torch.long)], dim=1), prompts())
    torch.testing.assert_close(joined[:, :6][MASK == 1], padded[:, :6][MASK == 1], atol=1e-10, rtol=0)

    assert encoder.summary_index(MASK).tolist() == ([5, 3] if kind == "clip_text_model" else [0, 0])
    sentence = joined[torch.arange(2), encoder.summary_index(MASK)]
    for position in (1, 2):  # what stands for the sentence has read all words
        changed = IDS.clone()
        changed[:, position] = 11
        other = encoder(changed, MASK, prompts())[torch.arange(2), encoder.summary_index(MASK)]
        assert (sentence - other).abs().amax(1).min() > 1e-3


@torch.no_grad()
def test_words_of_clip_never_see_what_comes_after_them() -> None:
    """Not even through the prompts, which therefore see no word."""
    encoder = lively("clip_text_model")
    changed = IDS.clone()
    changed[0, 3] = 11
    one, other = encoder(IDS, MASK, prompts()), encoder(changed, MASK, prompts())
    assert torch.equal(one[0, :3], other[0, :3])
    assert torch.equal(one[0, 6:], other[0, 6:])
    assert (one[0, 3:6] - other[0, 3:6]).abs().amax(1).min() > 1e-3


@torch.no_grad()
def test_the_sentence_of_clip_is_what_clip_pools() -> None:
    encoder = lively("clip_text_model")
    pooled = encoder.model(input_ids=IDS, attention_mask=MASK).pooler_output
    torch.testing.assert_close(encoder(IDS, MASK)[torch.arange(2), encoder.summary_index(MASK)], pooled)


def test_the_tokenizer_of_clip_has_a_stand_in_for_masked_words(tmp_path: Path) -> None:
    tokens = ["!", "a</w>", "b</w>", "a", "b", "*</w>", "<|startoftext|>", "<|endoftext|>"]
    clip = CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])
    assert clip.mask_token is None
    clip.save_pretrained(tmp_path)
    model = small_caris(text=text("clip_text_model"), tokenizer=str(tmp_path))
    assert model.tokenizer.mask_id == 5
    assert model.tokenizer(["a b", "b"]).input_ids.tolist() == [[6, 1, 2, 7], [6, 2, 7, 0]]
    model.save_pretrained(tmp_path / "model")
    assert CARIS.from_pretrained(tmp_path / "model").tokenizer.mask_id == 5


def test_the_text_encoder_of_a_whole_clip(tmp_path: Path) -> None:
    small = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    words = {**small, "vocab_size": 40, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    clip = CLIPModel(CLIPConfig(text_config=words, vision_config={**small, "image_size": 32, "patch_size": 16}))
    clip.save_pretrained(tmp_path)
    encoder = TextEncoder(tmp_path)
    assert encoder.config["model_type"] == "clip_text_model"
    expected, weights = clip.text_model.state_dict(), encoder.model.state_dict()
    assert expected.keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in expected.items())
    assert TextEncoder(encoder.config).config == encoder.config
    clip.half().save_pretrained(tmp_path / "half")
    assert {parameter.dtype for parameter in TextEncoder(tmp_path / "half").parameters()} == {torch.float32}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("encoder", "values"), [(VisionEncoder, SWIN), (TextEncoder, BERT)])
def test_weights_are_single_precision_whatever_the_file_holds(
    encoder: type[VisionEncoder | TextEncoder], values: dict[str, Any], dtype: str, tmp_path: Path
) -> None:
    theirs = AutoModel.from_config(AutoConfig.for_model(**values)).to(getattr(torch, dtype))
    theirs.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == dtype
    for source in (tmp_path, {**values, "dtype": dtype}):
        ours = encoder(source)
        assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
        assert dtype not in json.dumps(ours.config)
    name, value = next((name, value) for name, value in theirs.named_parameters() if value.ndim == 2)
    parameters = dict(encoder(tmp_path).named_parameters())
    assert torch.equal(next(p for n, p in parameters.items() if n.endswith(name)), value.float())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gpt2"}, "gpt2 cannot be the text encoder.*choose one of bert"),
        ({"model_type": "mpnet"}, "mpnet cannot be .*farther away the more padding"),
        ({"model_type": "albert"}, "albert cannot be .*begin with a projection"),
        ({"model_type": "deberta"}, "only v2 and v3"),
        ({**text("deberta-v2"), "conv_kernel_size": 3}, "convolves its words"),
        ({**BERT, "hiden_size": 24}, "A configuration of bert has no key hiden_size"),
    ],
)
def test_text_encoders_that_cannot_work(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextEncoder(config)


def test_stray_keys_of_published_configurations_are_left_behind(tmp_path: Path) -> None:
    AutoModel.from_config(AutoConfig.for_model(**BERT)).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    # As in bert-base-uncased; a model that kept them could be saved but not loaded.
    stray = {"gradient_checkpointing": False, "position_embedding_type": "absolute"}
    path.write_text(json.dumps(json.loads(path.read_text()) | stray))
    encoder = TextEncoder(tmp_path)
    assert not stray.keys() & encoder.config.keys()
    assert TextEncoder(encoder.config).config == encoder.config


@pytest.mark.parametrize("kind", VISION)
def test_vision(kind: str) -> None:
    encoder = VisionEncoder(vision(kind))
    assert encoder.strides == STRIDES.get(kind, [4, 8, 16, 32])
    step = max(encoder.strides)
    maps = encoder(torch.randn(2, 3, 2 * step, 3 * step))
    assert [tuple(x.shape) for x in maps] == [
        (2, channels, 2 * step // stride, 3 * step // stride)
        for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
    ]
    sum(x.square().sum() for x in maps).backward()
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) is parameter.requires_grad, name
    assert VisionEncoder(encoder.config).config == encoder.config


@pytest.mark.parametrize("kind", [kind for kind in VISION if kind != "resnet"])
def test_stochastic_depth_grows_linearly(kind: str) -> None:
    encoder = VisionEncoder(vision(kind), drop_path=0.3)
    rates = {module.drop_prob for module in encoder.modules() if hasattr(module, "drop_prob")}
    blocks = sum(VISION[kind].get("depths", [1] * 4))
    assert sorted(rates | {0.0}) == pytest.approx([0.3 * i / (blocks - 1) for i in range(blocks)])


@torch.no_grad()
@pytest.mark.parametrize("kind", ["convnext", "resnet", "dinov2", "dinov3_vit", "swin"])
@pytest.mark.parametrize("size", [(1, 1), (33, 70)])
def test_images_of_any_size(kind: str, size: tuple[int, int]) -> None:
    encoder = VisionEncoder(vision(kind)).eval()
    images = torch.randn(1, 3, *size)
    maps = encoder(images)
    expected = [tuple(-(-side // stride) for side in size) for stride in encoder.strides]
    if kind != "swin":  # which pads every stage for itself
        step = max(encoder.strides)
        expected = [tuple(-(-side // step) * step // stride for side in size) for stride in encoder.strides]
    assert [tuple(x.shape[2:]) for x in maps] == expected
    assert all(torch.isfinite(x).all() for x in maps)
    if kind == "swin":
        assert encoder.fit(images) is images


def test_what_no_map_depends_on_is_frozen() -> None:
    """Layers behind the last map would be dead parameters, which distributed training refuses."""
    encoder = VisionEncoder(
        vision("dinov2") | {"num_hidden_layers": 6, "out_features": [f"stage{i}" for i in range(1, 5)]}
    )
    frozen = {name for name, parameter in encoder.named_parameters() if not parameter.requires_grad}
    assert "backbone.embeddings.mask_token" in frozen
    assert all(
        name.startswith(("backbone.encoder.layer.4.", "backbone.encoder.layer.5."))
        for name in frozen - {"backbone.embeddings.mask_token"}
    )
    assert len(frozen) > 20


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, lambda: torch.device("meta")])
def test_encoders_can_be_built_anywhere(context: Any) -> None:
    with context():
        encoder = VisionEncoder(vision("convnext"))
    assert encoder.strides == [4, 8, 16, 32]
    assert encoder.training
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "clip_vision_model"}, "clip_vision_model is not among the backbones.*timm_backbone"),
        (
            {"model_type": "hiera", "embed_dim": 8, "depths": [1] * 4, "num_heads": [1] * 4, "image_size": [64, 64]},
            "This hiera reads images of one size alone",
        ),
        (vision("swin") | {"out_features": ["stage1", "stage4"]}, "swin gives 2 feature maps; four are needed"),
    ],
)
def test_backbones_that_cannot_work(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VisionEncoder(config)


UNDECAYED = {
    "swin": {"relative_position_bias_table"},
    "swinv2": {"logit_scale"},
    "convnext": {"layer_scale_parameter"},
    "convnextv2": {"grn.weight", "grn.bias"},
    "dinov3_convnext": {"gamma"},
    "resnet": set(),
    "dinov2": {"cls_token", "mask_token", "position_embeddings", "lambda1"},
    "dinov2_with_registers": {"cls_token", "mask_token", "position_embeddings", "register_tokens", "lambda1"},
    "dinov3_vit": {"cls_token", "mask_token", "register_tokens", "lambda1"},
    "beit": {"cls_token", "lambda_1", "lambda_2", "relative_position_bias_table"},
    "bert": {"word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight"},
    "clip_text_model": {"token_embedding.weight", "position_embedding.weight"},
    "deberta-v2": {"word_embeddings.weight", "rel_embeddings.weight"},
    "electra": {"word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight"},
}


@pytest.mark.parametrize("kind", UNDECAYED)
def test_norms_tables_and_scales_do_not_decay(kind: str) -> None:
    words = kind in TEXT
    model = small_caris(**{"text" if words else "vision": (text if words else vision)(kind)})
    part = "text" if words else "vision"
    model.requires_grad_(True)  # DINO's unused mask token too, which is frozen and in no group
    group = next(g for g in model.parameter_groups(1.0, 0.5) if g["name"] == f"{part}, no decay")
    assert group["weight_decay"] == 0
    kept = {id(parameter) for parameter in group["params"]}
    encoder = getattr(model, part)
    norms = {id(p) for module in encoder.modules() if "Norm" in type(module).__name__ for p in module.parameters()}
    assert norms <= kept
    names = {name for name, parameter in encoder.named_parameters() if id(parameter) in kept - norms}
    assert {ending for ending in UNDECAYED[kind] if any(name.endswith(ending) for name in names)} == UNDECAYED[kind]
    assert all(name.endswith(tuple(UNDECAYED[kind])) for name in names), names


TIMM = {
    "resnet18": ([64, 128, 256, 512], [4, 8, 16, 32]),
    "convnext_atto": ([40, 80, 160, 320], [4, 8, 16, 32]),
    "swin_tiny_patch4_window7_224": ([96, 192, 384, 768], [4, 8, 16, 32]),
    "vit_tiny_patch16_224": ([192] * 4, [16] * 4),
    "eva02_tiny_patch14_224": ([192] * 4, [14] * 4),
}


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    pytest.importorskip("timm", reason="the extra timm is not installed")
    encoder = VisionEncoder({"model_type": "timm_backbone", "backbone": name}, drop_path=0.1)
    assert (encoder.channels, encoder.strides) == TIMM[name]
    with torch.no_grad():
        maps = encoder(torch.randn(1, 3, 50, 70))
    assert [x.shape[1] for x in maps] == encoder.channels
    assert VisionEncoder(encoder.config).config == encoder.config


def test_weights_of_timm_stand_alone_once_loaded(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    from safetensors.torch import save_file

    network = timm.create_model("resnet18").half()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    described = {"architecture": "resnet18", "num_classes": 1000, "pretrained_cfg": {"tag": "mine"}}
    (tmp_path / "config.json").write_text(json.dumps(described | {"torch_dtype": "float16"}))
    encoder = VisionEncoder(tmp_path)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert torch.equal(encoder.backbone._backbone.conv1.weight, network.conv1.weight.float())
    assert encoder.config["backbone"] == "resnet18"
