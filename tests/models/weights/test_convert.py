"""Published weights into our models, and published files into folders."""

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden import reference, tiny_caris
from models.small import small_caris
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import BertConfig, BertTokenizer, SwinBackbone

from maskris.models.caris.model import CARIS
from maskris.models.loading import load_model
from maskris.models.weights.convert import convert_checkpoint, load_official
from maskris.models.weights.options import ConversionOptions
from maskris.models.weights.rules import resize_bias_table


@pytest.fixture(scope="module")
def weights(shared: Path) -> dict[str, Tensor]:
    return reference(shared, "tiny_state.safetensors")


@pytest.fixture(scope="module")
def tiny(shared: Path) -> CARIS:
    return tiny_caris(shared)


@pytest.fixture
def vocabulary(shared: Path, tmp_path: Path) -> str:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(reference(shared, "extras.json")["tokenizer.vocab"]) + "\n")
    return str(path)


def imagenet(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The vision encoder of the tiny model as a classifier's checkpoint names it."""
    prefix = "backbone.vis_encoder."
    inner = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    inner = {name: value for name, value in inner.items() if not name.startswith("norm") and name != "mask_token"}
    inner |= {"norm.weight": torch.ones(128), "norm.bias": torch.ones(128), "head.weight": torch.ones(10, 128)}
    return inner | {"head.bias": torch.ones(10), "layers.0.blocks.1.attn_mask": torch.ones(64, 49, 49)}


def logits(model: CARIS, case: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        features = model.encode_image(case["image"])
        return model.segment(features, case["input_ids"], case["attention_mask"], torch.arange(2))


# load_official


def test_everything_wrong_is_named_at_once_and_nothing_is_loaded(tiny: CARIS, weights: dict[str, Tensor]) -> None:
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    wrong = {name: value + 1 if value.is_floating_point() else value for name, value in weights.items()}
    wrong["pixel_decoder.encoder.7.l_norm1.weight"] = torch.ones(64)
    wrong["backbone.surprise"] = torch.ones(1)
    wrong["backbone.conditional_prompts.lang_prompts.weight"] = torch.ones(5, 47)
    del wrong["pixel_decoder.encoder.0.gamma_v2l"], wrong["backbone.vis_encoder.layers.0.blocks.0.attn.qkv.bias"]
    with pytest.raises(ValueError, match=r"These weights do not fit CARIS \(7 problem\(s\)\)") as caught:
        load_official(tiny, wrong)
    message = str(caught.value)
    for part in (
        "unknown key backbone.surprise",
        "pixel_decoder.encoder.7.l_norm1.weight has no place in this model (as decoder.layers.7.l_norm1.weight)",
        "backbone.conditional_prompts.lang_prompts.weight has shape [5, 47], conditional_prompts.lang_prompts.weight "
        "needs [5, 48]",
        "nothing was found for decoder.layers.0.gamma_v2l",
        "nothing was found for vision.backbone.swin.encoder.layers.0.blocks.0.attention.q_proj.bias",
    ):
        assert part in message
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())


def test_fused_projections_are_split_in_the_order_q_k_v(tiny: CARIS, weights: dict[str, Tensor]) -> None:
    fused = weights["backbone.vis_encoder.layers.1.blocks.0.attn.qkv.weight"]
    state = tiny.state_dict()
    parts = [state[f"vision.backbone.swin.encoder.layers.1.blocks.0.attention.{x}_proj.weight"] for x in "qkv"]
    assert torch.equal(torch.cat(parts), fused)


def test_a_fused_projection_of_the_wrong_size_is_an_error(tiny: CARIS, weights: dict[str, Tensor]) -> None:
    name = "backbone.vis_encoder.layers.1.blocks.0.attn.qkv.weight"
    with pytest.raises(ValueError, match=r"attn\.qkv\.weight has shape \[31, 32\]"):
        load_official(tiny, weights | {name: weights[name][:-1]})


def test_other_models_have_no_official_weights() -> None:
    with pytest.raises(TypeError, match=r"No published weights are known for Linear; known: CARIS"):
        load_official(nn.Linear(1, 1), {})


def test_half_precision_weights_load_into_float32(shared: Path, weights: dict[str, Tensor]) -> None:
    model = tiny_caris(shared)
    load_official(model, {name: value.half() for name, value in weights.items()})
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


# Bias tables of another window


def test_bias_tables_are_resized_head_by_head_bicubically() -> None:
    table = torch.randn(13 * 13, 3)
    resized = resize_bias_table(table, 23 * 23)
    for head in range(3):
        grid = table[:, head].reshape(1, 1, 13, 13)
        expected = F.interpolate(grid, size=(23, 23), mode="bicubic", align_corners=False)
        torch.testing.assert_close(resized[:, head].reshape(23, 23), expected[0, 0])


def test_resizing_keeps_constants_symmetry_and_the_same_window() -> None:
    assert resize_bias_table(table := torch.randn(49, 2), 49) is table
    torch.testing.assert_close(resize_bias_table(torch.full((49, 2), 3.0), 169), torch.full((169, 2), 3.0))
    symmetric = torch.randn(7, 7)
    symmetric = (symmetric + symmetric.T).reshape(49, 1)
    grid = resize_bias_table(symmetric, 169).reshape(13, 13)
    torch.testing.assert_close(grid, grid.T)
    assert resize_bias_table(torch.ones(48, 2), 169).shape == (48, 2)  # no square: left for the shape check
    assert resize_bias_table(torch.ones(49, 2).half(), 169).dtype == torch.float16


# convert_checkpoint


@pytest.mark.parametrize("window", [None, 7, 12])
def test_the_whole_network(
    shared: Path, tmp_path: Path, weights: dict[str, Tensor], vocabulary: str, window: int | None
) -> None:
    contents = {
        "model": {f"module.{name}": value for name, value in weights.items()},
        "optimizer": {"state": {}},
        "epoch": 49,
        "args": argparse.Namespace(img_size=224),
    }
    torch.save(contents, tmp_path / "best.pth")
    out = tmp_path / "folder" / "caris"
    report = convert_checkpoint(
        tmp_path / "best.pth",
        out,
        options=ConversionOptions(tokenizer=vocabulary, text_heads=4, window=window),
    )

    model = CARIS.from_pretrained(out)
    expected = tiny_caris(shared, vision=model.config["vision"] | {"window_size": window or 7})
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in expected.state_dict().items())
    case = reference(shared, "tiny_case1.safetensors")
    if window != 12:
        torch.testing.assert_close(logits(model, case), case["logits_low"], atol=2e-5, rtol=0)
    assert model.preprocess.size == (224, 224)
    for sentence in reference(shared, "extras.json")["tokenizer.cases"][:2]:
        assert model.tokenizer([sentence["text"]]).input_ids.tolist() == [sentence["ids"]]
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer",
    ]
    assert [path.name for path in out.parent.iterdir()] == ["caris"]

    assert report.kind == "maskris"
    assert report.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert len(report.resized) == (8 if window == 12 else 0)
    assert report.configuration["vision"]["window_size"] == (window or 7)
    reasons = {name: reason for reason, names in report.dropped.items() for name in names}
    assert "class weights" in reasons["criterion.seg_criterion.weight"]
    assert "training" in reasons["optimizer"]
    assert "dead" in reasons["backbone.vis_encoder.mask_token"]
    text = str(report)
    assert f"{report.parameters:,} parameters" in text
    assert "prompt_levels: [1, 2]" in text
    assert ("resized 8 bias tables" in text) == (window == 12)
    assert text.endswith(f"written to {out}")


@pytest.mark.parametrize("window", [None, 5])
def test_swin_from_imagenet(tmp_path: Path, weights: dict[str, Tensor], window: int | None) -> None:
    torch.save({"model": imagenet(weights)}, tmp_path / "swin.pth")
    report = convert_checkpoint(tmp_path / "swin.pth", tmp_path / "swin", options=ConversionOptions(window=window))
    assert report.kind == "swin"
    assert len(report.resized) == (0 if window is None else 8)
    assert sum(len(names) for names in report.dropped.values()) == 8 + 4 + 1

    alone = SwinBackbone.from_pretrained(tmp_path / "swin")
    assert [x.shape[1] for x in alone(torch.zeros(1, 3, 64, 64)).feature_maps] == [16, 32, 64, 128]
    model = small_caris(vision=str(tmp_path / "swin"))
    state = model.vision.backbone.state_dict()
    block = "swin.encoder.layers.2.blocks.1"
    fused = weights["backbone.vis_encoder.layers.2.blocks.1.attn.qkv.weight"]
    assert torch.equal(torch.cat([state[f"{block}.attention.{x}_proj.weight"] for x in "qkv"]), fused)
    table = weights["backbone.vis_encoder.layers.2.blocks.1.attn.relative_position_bias_table"]
    ours = state[f"{block}.attention.relative_position_bias.relative_position_bias_table"]
    assert torch.equal(ours, resize_bias_table(table, (2 * (window or 7) - 1) ** 2))
    for i in range(4):
        norm = model.vision.backbone.hidden_states_norms[f"stage{i + 1}"]
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()


def test_flat_safetensors_are_sources_too(tmp_path: Path, weights: dict[str, Tensor], vocabulary: str) -> None:
    save_file(weights, tmp_path / "weights.safetensors")
    report = convert_checkpoint(
        tmp_path / "weights.safetensors",
        tmp_path / "a",
        options=ConversionOptions(tokenizer=vocabulary, text_heads=4, image_size=96),
    )
    model = load_model(tmp_path / "a")
    assert model.preprocess.size == (96, 96)
    assert report.configuration["preprocess"] == model.preprocess.to_dict()


def test_text_and_tokenizer_from_folders(tmp_path: Path, weights: dict[str, Tensor], shared: Path) -> None:
    config = reference(shared, "config.json")["model"]["bert"]
    BertConfig(**(config | {"hidden_dropout_prob": 0.25})).save_pretrained(tmp_path / "bert")
    words = reference(shared, "extras.json")["tokenizer.vocab"]
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(tmp_path / "bert")
    torch.save(weights, tmp_path / "a.pth")
    bert = str(tmp_path / "bert")
    convert_checkpoint(tmp_path / "a.pth", tmp_path / "a", "maskris", ConversionOptions(text=bert, tokenizer=bert))
    model = CARIS.from_pretrained(tmp_path / "a")
    assert model.config["text"]["hidden_dropout_prob"] == 0.25
    assert model.config["text"]["num_attention_heads"] == 4
    case = reference(shared, "tiny_case1.safetensors")
    torch.testing.assert_close(logits(model, case), case["logits_low"], atol=2e-5, rtol=0)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_permissions_that_the_umask_leaves(
    tmp_path: Path, weights: dict[str, Tensor], umask: int, mode: int
) -> None:
    torch.save({"model": imagenet(weights)}, tmp_path / "swin.pth")
    before = os.umask(umask)
    try:
        convert_checkpoint(tmp_path / "swin.pth", tmp_path / "swin")
    finally:
        os.umask(before)
    assert {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "swin").iterdir()} == {
        "config.json": mode,
        "model.safetensors": mode,
    }


def test_a_full_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="out exists already"):
        convert_checkpoint(tmp_path / "none.pth", tmp_path / "out")


def test_failures_leave_no_folder(
    tmp_path: Path, weights: dict[str, Tensor], vocabulary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(weights, tmp_path / "a.pth")
    options = ConversionOptions(tokenizer=vocabulary, text_heads=4)
    torch.save(weights | {"backbone.surprise": torch.ones(1)}, tmp_path / "b.pth")
    with pytest.raises(ValueError, match=r"unknown key backbone\.surprise"):
        convert_checkpoint(tmp_path / "b.pth", tmp_path / "out", options=options)
    torch.save({"conv1.weight": torch.ones(1)}, tmp_path / "c.pth")
    with pytest.raises(ValueError, match="neither those of a published network"):
        convert_checkpoint(tmp_path / "c.pth", tmp_path / "out", options=options)

    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("maskris.models.base.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        convert_checkpoint(tmp_path / "a.pth", tmp_path / "out", options=options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "b.pth", "c.pth", "vocab.txt"]


def test_tokenizers_that_can_not_be_meant(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save(weights, tmp_path / "a.pth")
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(300))])
    )
    with pytest.raises(ValueError, match="knows 305 tokens, the text encoder only 200"):
        convert_checkpoint(
            tmp_path / "a.pth",
            tmp_path / "out",
            options=ConversionOptions(tokenizer=str(tmp_path / "vocab.txt"), text_heads=4),
        )
    with pytest.raises(ValueError, match=r"could not be loaded; without a network, give a folder or the vocab\.txt"):
        convert_checkpoint(
            tmp_path / "a.pth",
            tmp_path / "out",
            options=ConversionOptions(tokenizer=str(tmp_path / "none"), text_heads=4),
        )
    with pytest.raises(ValueError, match="There is no configuration of a text encoder"):
        convert_checkpoint(tmp_path / "a.pth", tmp_path / "out", options=ConversionOptions(text=str(tmp_path / "none")))
