"""The real configurations on the meta device against the official lists of parameters, shapes and optimizer groups."""

from pathlib import Path
from typing import Any

import pytest
import torch
from golden import reference
from models import literal

from maskris.models.caris.model import CARIS
from maskris.models.weights.caris import CARIS_RULES, caris_config
from maskris.models.weights.encoders import SWIN_IMAGENET_RULES, bert_config, swin_config
from maskris.models.weights.networks import kind_of
from maskris.models.weights.options import ConversionOptions
from maskris.models.weights.rules import dropped, rename

SIZES = {"b": ("swin_base", 226_572_792), "t": ("swin_tiny", 166_832_346)}


def real_arguments(shared: Path, size: str) -> dict[str, Any]:
    swin = reference(shared, "config.json")["real_config"][SIZES[size][0]]
    return {"vision": {"model_type": "swin", **swin, "window_size": 7}, "text": {"model_type": "bert"}}


@pytest.fixture(scope="module", params=SIZES)
def real(shared: Path, request: pytest.FixtureRequest) -> tuple[str, CARIS, list[dict[str, Any]]]:
    with torch.device("meta"):
        model = CARIS(**real_arguments(shared, request.param), tokenizer=["a"])
    return request.param, model, reference(shared, f"keys_swin_{request.param}.json")["keys"]


def test_every_key_is_mapped_to_the_right_shape_or_knowingly_dropped(real: tuple[str, CARIS, list[Any]]) -> None:
    _, model, keys = real
    ours = {name: list(value.shape) for name, value in model.state_dict().items()}
    filled = set()
    for key in keys:
        names = rename(key["name"], CARIS_RULES)
        assert names is not None, key["name"]
        for name in names:
            rows = key["shape"][:1] if len(names) == 1 else [key["shape"][0] // 3]
            assert ours[name] == rows + key["shape"][1:], key["name"]
            assert name not in filled, f"{name} is filled twice"
            filled.add(name)
    assert filled == set(ours)


def test_what_is_dropped_is_dead_or_follows_from_the_rest(real: tuple[str, CARIS, list[Any]]) -> None:
    size, model, keys = real
    left = dropped((key["name"] for key in keys), CARIS_RULES)
    learned = [key for key in keys if key["kind"] == "param" and any(key["name"] in names for names in left.values())]
    assert [key["name"] for key in learned] == ["backbone.vis_encoder.mask_token"]
    assert sum(map(len, left.values())) == 2 + sum(real_depths(model))
    official = SIZES[size][1]
    assert sum(parameter.numel() for parameter in model.parameters()) == official - learned[0]["shape"][2]


def real_depths(model: CARIS) -> list[int]:
    depths: list[int] = model.config["vision"]["depths"]
    return depths


def test_optimizer_groups_are_the_official_six(real: tuple[str, CARIS, list[Any]]) -> None:
    _, model, keys = real
    groups = model.parameter_groups(lr=1e-4, weight_decay=1e-2)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (pytest.approx(lr), decay) for lr in (1e-5, 1e-5, 1e-4) for decay in (0.0, 1e-2)
    ]
    names = {parameter: name for name, parameter in model.named_parameters()}
    ours = {names[parameter]: i for i, group in enumerate(groups) for parameter in group["params"]}
    assert len(ours) == sum(len(group["params"]) for group in groups) == len(names), "each exactly once"
    official = {
        name: key["group"] for key in keys if key["kind"] == "param" for name in rename(key["name"], CARIS_RULES) or []
    }
    assert ours == official


def test_the_configuration_is_read_off_the_shapes(shared: Path) -> None:
    for size in SIZES:
        keys = reference(shared, f"keys_swin_{size}.json")["keys"]
        weights = {key["name"]: torch.empty(key["shape"], device="meta") for key in keys}
        assert kind_of(weights) == "maskris"
        found = caris_config(weights)
        expected = real_arguments(shared, size)
        assert {key: found["vision"][key] for key in expected["vision"]} == expected["vision"]
        assert found["text"] == {
            "model_type": "bert",
            "vocab_size": 30522,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
        }
        del found["vision"], found["text"]
        assert found == {
            **{"width": 256, "layers": 6, "heads": 8, "points": 4, "levels": 3, "prompts": 5},
            **{"prompt_levels": [1, 2], "ffn_ratio": 4, "attention_ratio": 4, "keep_end_token": False},
        }


def test_the_literal_shapes_are_the_official_ones(shared: Path) -> None:
    for size in SIZES:
        keys = reference(shared, f"keys_swin_{size}.json")["keys"]
        weights = {key["name"]: torch.empty(key["shape"], device="meta") for key in keys}
        assert literal.shapes(caris_config(weights)) == {key["name"]: tuple(key["shape"]) for key in keys}


UNUSUAL: dict[str, Any] = {
    "vision": {"embed_dim": 8, "depths": [1, 2, 3, 1], "num_heads": [1, 2, 2, 4], "window_size": 5},
    "text": {"vocab_size": 31, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    | {"intermediate_size": 20, "max_position_embeddings": 9},
    **{"width": 32, "layers": 3, "heads": 2, "points": 3, "levels": 2, "prompts": 7, "prompt_levels": [3]},
    **{"ffn_ratio": 2, "attention_ratio": 1},
}


def test_unusual_configurations_are_read_too() -> None:
    weights = {name: torch.empty(shape) for name, shape in literal.shapes(UNUSUAL).items()}
    found = caris_config(weights, ConversionOptions(heads=2, text_heads=4))
    for part in ("vision", "text"):
        assert {key: found[part][key] for key in UNUSUAL[part]} == UNUSUAL[part]
    rest = set(UNUSUAL) - {"vision", "text"}
    assert {key: found[key] for key in rest} == {key: UNUSUAL[key] for key in rest}
    assert caris_config(weights, ConversionOptions(heads=2, text_heads=4, window=9))["vision"]["window_size"] == 9


def test_what_shapes_do_not_tell_must_be_told() -> None:
    weights = {name: torch.empty(shape) for name, shape in literal.shapes(UNUSUAL).items()}
    with pytest.raises(ValueError, match=r"width 48 is no multiple of 64.*text_heads"):
        caris_config(weights, ConversionOptions(heads=2))
    with pytest.raises(ValueError, match="5 heads don't fit"):
        caris_config(weights, ConversionOptions(heads=5, text_heads=4))
    name = "backbone.conditional_prompts.lang_prompts.weight"
    with pytest.raises(ValueError, match="nothing that fits; give prompt_levels"):
        caris_config(weights | {name: torch.empty(8, 48)}, ConversionOptions(heads=2, text_heads=4))
    with pytest.raises(ValueError, match=r"pixel_decoder\.level_encoding\.weight is missing"):
        caris_config({key: value for key, value in weights.items() if "level_encoding" not in key})
    inner = {key.removeprefix("backbone.vis_encoder."): value for key, value in weights.items()}
    inner["layers.0.blocks.0.attn.relative_position_bias_table"] = torch.empty(80, 1)
    with pytest.raises(ValueError, match=r"\(2 window - 1\)² rows, not 80"):
        swin_config(inner)
    with pytest.raises(ValueError, match=r"neither those of a published network.*the first names are conv1"):
        kind_of({"conv1": torch.empty(1)})


def test_a_given_text_configuration_must_agree_with_the_shapes() -> None:
    weights = {
        name.removeprefix("backbone.lang_encoder."): torch.empty(shape)
        for name, shape in literal.shapes(UNUSUAL).items()
        if "lang_encoder" in name
    }
    described = {"model_type": "bert", **UNUSUAL["text"], "hidden_act": "relu"}
    assert bert_config(weights, ConversionOptions(text=described))["hidden_act"] == "relu"
    assert bert_config(weights, ConversionOptions(text=described))["num_attention_heads"] == 4
    with pytest.raises(ValueError, match="vocab_size is 99, not 31"):
        bert_config(weights, ConversionOptions(text=described | {"vocab_size": 99}))
    with pytest.raises(ValueError, match="model_type is roberta, not bert"):
        bert_config(weights, ConversionOptions(text=described | {"model_type": "roberta"}))


def test_imagenet_names_of_swin() -> None:
    assert rename("layers.2.blocks.17.attn.qkv.weight", SWIN_IMAGENET_RULES) == [
        f"swin.encoder.layers.2.blocks.17.attention.{part}_proj.weight" for part in "qkv"
    ]
    assert rename("layers.1.blocks.1.attn_mask", SWIN_IMAGENET_RULES) == []
    assert rename("head.bias", SWIN_IMAGENET_RULES) == []
    assert rename("head", SWIN_IMAGENET_RULES) is None
    assert rename("backbone.vis_encoder.layers.0.blocks.0.attn.qkv.weights.more", CARIS_RULES) is not None
    assert rename("backbone.vis_encoder.norm4.weight", CARIS_RULES) is None
