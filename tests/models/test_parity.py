"""CARIS against the official network: golden tensors, and a literal reference where there are none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import reference, tiny_caris
from models import literal
from torch import Tensor

from maskris.models.caris.model import CARIS
from maskris.models.layers.attention import sine_encoding
from maskris.models.weights.convert import load_official


def close(ours: Tensor, official: Any, tolerance: float) -> None:
    official = torch.as_tensor(np.asarray(official))
    assert ours.shape == official.shape
    assert (ours.double() - official.double()).abs().max().item() <= tolerance


@pytest.fixture(scope="module")
def run(shared: Path) -> dict[str, Any]:
    """One pass of the tiny model over the golden inputs, with everything that the golden file holds."""
    model, case = tiny_caris(shared), reference(shared, "tiny_case1.safetensors")
    seen: dict[str, Any] = {"case": case, "model": model}
    for i, layer in enumerate(model.decoder.layers):
        layer.register_forward_hook(lambda _, args, out, i=i: seen.__setitem__(f"call{i}", (args, out)))
    model.decoder.mask_feature[0].register_forward_hook(lambda _, args, __: seen.__setitem__("fpn", args[0]))
    model.decoder.lang_embed.register_forward_hook(lambda _, __, out: seen.__setitem__("classes", out))
    model.decoder.lang_in_norm.register_forward_hook(lambda _, __, out: seen.__setitem__("lang_in", out))
    with torch.no_grad():
        features = model.encode_image(case["image"])
        seen["features"] = features
        seen["text"] = model.encode_text(features.prompts, case["input_ids"], case["attention_mask"])
        seen["logits"] = model.segment(features, case["input_ids"], case["attention_mask"], torch.arange(2))
        for i, layer in enumerate(model.decoder.layers):  # all levels, also those of the last layer that nobody reads
            seen[f"layer{i}"] = layer.forward(*seen[f"call{i}"][0][:-1])
    return seen


@pytest.mark.parametrize("i", range(4))
def test_vision_features(run: dict[str, Any], i: int) -> None:
    close(run["features"].maps[i], run["case"][f"backbone.feat{i}"], 1e-5)


def test_conditional_prompts(run: dict[str, Any]) -> None:
    close(run["features"].prompts, run["case"]["backbone.cond_prompts"], 1e-5)


def test_text_features_of_words_and_prompts(run: dict[str, Any]) -> None:
    close(run["text"], run["case"]["backbone.lang_with_prompts"], 1e-5)


def test_words_enter_the_decoder(run: dict[str, Any]) -> None:
    close(run["lang_in"], run["case"]["decoder.lang_in"], 1e-5)


@pytest.mark.parametrize("i", range(2))
def test_decoder_layers(run: dict[str, Any], i: int) -> None:
    vis, text = run[f"layer{i}"]
    close(vis[:1], run["case"][f"decoder.layer{i}.vis_first"], 2e-5)
    close(text[:, :20], run["case"][f"decoder.layer{i}.lang"], 2e-5)
    close(text[:, 20:], run["case"][f"decoder.layer{i}.prompts"], 2e-5)


def test_the_last_layer_computes_only_what_is_read(run: dict[str, Any]) -> None:
    for i, wanted in enumerate((28 * 28 + 14 * 14 + 7 * 7, 28 * 28)):
        vis, text = run[f"call{i}"][1]
        whole, words = run[f"layer{i}"]
        assert vis.shape[1] == wanted
        close(vis, whole[:, -wanted:], 1e-6)
        close(text, words, 1e-6)


def test_position_encoding(run: dict[str, Any]) -> None:
    encoding = sine_encoding(7, 7, 64).T.reshape(1, 64, 7, 7)
    close(encoding, run["case"]["decoder.pos_encoding_first"], 1e-6)


def test_class_vectors_and_finest_map(run: dict[str, Any]) -> None:
    close(run["classes"], run["case"]["decoder.class_embed"], 2e-5)
    close(run["fpn"][:1, :16], run["case"]["decoder.fpn_out_first_ch0to15"], 2e-5)


def test_logits_and_masks(run: dict[str, Any]) -> None:
    case = run["case"]
    close(run["logits"], case["logits_low"], 2e-5)
    up = run["model"].upsample(run["logits"], (224, 224))
    close(up, case["logits_up"], 2e-5)
    assert torch.equal(up.argmax(1, keepdim=True), case["pred_mask"].long())


def test_the_literal_reference_is_the_official_network(shared: Path) -> None:
    """The judge of the unseen configurations is itself judged here."""
    config = reference(shared, "config.json")["model"]
    arguments = {"width": 64, "layers": 2, "heads": 8, "points": 4, "levels": 3, "prompts": 5, "prompt_levels": [1, 2]}
    arguments |= {"ffn_ratio": 4, "attention_ratio": 4, "vision": config["swin"], "text": config["bert"]}
    weights = {name: value.numpy() for name, value in reference(shared, "tiny_state.safetensors").items()}
    assert {name: value.shape for name, value in weights.items()} == literal.shapes(arguments)
    case = {name: value.numpy() for name, value in reference(shared, "tiny_case1.safetensors").items()}
    out = literal.caris(weights, arguments, case["image"][0], case["input_ids"][0], case["attention_mask"][0])
    for i in range(4):
        close(torch.from_numpy(out["maps"][i]), case[f"backbone.feat{i}"][0], 1e-5)
    close(torch.from_numpy(out["text"]), case["backbone.lang_with_prompts"][0], 1e-5)
    close(torch.from_numpy(out["logits"]), case["logits_low"][0], 2e-5)


UNSEEN: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "window 12, 256 px: windows pad, and one exceeds the map": (
        (256, 256),
        {"window": 12, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 2, 4], "width": 64, "layers": 2},
    ),
    "odd sizes, odd depths, other heads and points": (
        (91, 130),
        {
            "window": 7,
            "depths": [1, 2, 3, 2],
            "num_heads": [2, 1, 4, 8],
            "width": 32,
            "layers": 1,
            "heads": 4,
            "points": 2,
        },
    ),
    "even window, other prompts and inner widths": (
        (128, 96),
        {
            "window": 4,
            "width": 32,
            "layers": 3,
            "heads": 2,
            "points": 3,
            "prompts": 2,
            "prompt_levels": [1, 2, 3],
            "ffn_ratio": 2,
        }
        | {"attention_ratio": 1},
    ),
    "two levels, two laterals": ((64, 96), {"window": 5, "levels": 2, "prompts": 1, "prompt_levels": [2]}),
    "four levels, no lateral": (
        (64, 64),
        {"window": 3, "layers": 1, "levels": 4, "heads": 1, "points": 1},
    ),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_unseen_configurations(name: str) -> None:
    (height, width), changes = UNSEEN[name]
    swin = {
        "model_type": "swin",
        "embed_dim": 8,
        "depths": changes.get("depths", [2, 2, 2, 2]),
        "num_heads": changes.get("num_heads", [1, 2, 4, 8]),
        "window_size": changes["window"],
    }
    text = {
        "model_type": "bert",
        "vocab_size": 50,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 40,
        "max_position_embeddings": 16,
    }
    arguments = {
        "vision": swin,
        "text": text,
        "width": 32,
        "layers": 2,
        "heads": 8,
        "points": 4,
        "levels": 3,
        "prompts": 5,
        "prompt_levels": [1, 2],
        "ffn_ratio": 4,
        "attention_ratio": 4,
    }
    arguments |= {key: value for key, value in changes.items() if key in arguments}
    model = CARIS(**arguments, tokenizer=["a"]).eval()
    weights = literal.random_weights(arguments, seed=len(name))
    load_official(model, {key: torch.from_numpy(value) for key, value in weights.items()})

    rng = np.random.default_rng(0)
    image = rng.standard_normal((3, height, width)).astype(np.float32)
    ids, mask = rng.integers(5, 50, 9), np.array([1] * 6 + [0] * 3)
    expected = literal.caris(weights, arguments, image, ids, mask)
    with torch.no_grad():
        features = model.encode_image(torch.from_numpy(image)[None])
        inputs = torch.from_numpy(ids)[None], torch.from_numpy(mask)[None]
        words = model.encode_text(features.prompts, *inputs)
        logits = model.segment(features, *inputs, torch.zeros(1, dtype=torch.long))
    for ours, official in zip(features.maps, expected["maps"], strict=True):
        close(ours[0], official, 2e-5)
    close(features.prompts[0], expected["prompts"], 2e-5)
    close(words[0], expected["text"], 2e-5)
    scale = max(1.0, np.abs(expected["logits"]).max())
    assert np.abs(expected["logits"]).std() > 0.1, "a flat map would hide mistakes"
    close(logits[0], expected["logits"], 5e-5 * scale)
