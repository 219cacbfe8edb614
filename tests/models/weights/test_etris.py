"""The real configurations on the meta device against the official lists of parameters and shapes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import literal_etris
from models.small_etris import arguments, configuration, golden

from maskris.models.etris.model import ETRIS
from maskris.models.weights.etris import ETRIS_RULES, etris_config
from maskris.models.weights.networks import kind_of
from maskris.models.weights.options import ConversionOptions
from maskris.models.weights.rules import dropped, rename

LAYERS: dict[str, Any] = {"r50": [3, 4, 6, 3], "r101": [3, 4, 23, 3], "v16": 12}


@pytest.fixture(scope="module", params=LAYERS)
def real(shared: Path, request: pytest.FixtureRequest) -> tuple[str, ETRIS, dict[str, Any]]:
    described = golden(shared, f"keys_etris_{request.param}.json")
    weights = {key["name"]: torch.empty(key["shape"], device="meta") for key in described["keys"]}
    with torch.device("meta"):
        model = ETRIS(**etris_config(weights), tokenizer=["a"])
    return request.param, model, described


def test_every_key_is_mapped_to_the_right_shape_or_knowingly_dropped(real: tuple[str, ETRIS, dict[str, Any]]) -> None:
    _, model, described = real
    ours = {name: list(value.shape) for name, value in model.state_dict().items()}
    filled = set()
    for key in described["keys"]:
        names = rename(key["name"], ETRIS_RULES)
        assert names is not None, key["name"]
        for name in filter(None, names):
            rows = key["shape"][:1] if len(names) == 1 else [key["shape"][0] // 3]
            assert ours[name] == rows + key["shape"][1:], key["name"]
            assert name not in filled, f"{name} is filled twice"
            filled.add(name)
    assert filled == set(ours)


def test_what_is_dropped_is_dead(real: tuple[str, ETRIS, dict[str, Any]]) -> None:
    _, model, described = real
    left = dropped((key["name"] for key in described["keys"]), ETRIS_RULES)
    assert list(left.values()) == [["backbone.logit_scale"]]
    queries_and_keys = 3 * 2 * (512 * 512 + 512)
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert total == described["total_parameters"] - 1 - queries_and_keys
    assert trained == described["trainable_parameters"] - queries_and_keys


def test_what_is_frozen_is_what_the_official_code_freezes(real: tuple[str, ETRIS, dict[str, Any]]) -> None:
    _, model, described = real
    official = {
        name: "frozen" not in key
        for key in described["keys"]
        if key["kind"] == "param"
        for name in rename(key["name"], ETRIS_RULES) or []
        if name
    }
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == official


def test_the_configuration_is_read_off_the_shapes(shared: Path) -> None:
    for size, layers in LAYERS.items():
        keys = golden(shared, f"keys_etris_{size}.json")["keys"]
        weights = {key["name"]: torch.empty(key["shape"], device="meta") for key in keys}
        assert kind_of(weights) == "etris"
        vit = size == "v16"
        found = etris_config(weights)
        clip = found.pop("clip")
        assert clip == {
            "embed_dim": 1024 if size == "r50" else 512,
            "image_resolution": 416 if vit else 224,
            "vision_layers": layers,
            "vision_width": 768 if vit else 64,
            "vision_patch_size": 16 if vit else None,
            "context_length": 77,
            "vocab_size": 49408,
            "transformer_width": 512,
            "transformer_layers": 12,
        }
        assert found == {
            **{"ladder_dim": 64, "nhead": 8 if vit else 4, "multi_stage": 3, "stride": [1, 1, 1] if vit else [2, 1, 2]},
            **{"num_layers": 3, "num_head": 8, "dim_ffn": 512},
        }


def test_the_literal_shapes_are_the_official_ones(shared: Path) -> None:
    for size, layers in LAYERS.items():
        vit = size == "v16"
        embed_dim = 1024 if size == "r50" else 512
        c = configuration(vit, fpn_in=[768, 768, 512] if vit else [512, 1024, embed_dim], fpn_out=[256, 512, 1024])
        c["clip"] |= {"embed_dim": embed_dim, "image_resolution": 224, "vocab_size": 49408, "transformer_width": 512}
        c["clip"] |= {"vision_layers": layers, "vision_width": 768 if vit else 64, "transformer_layers": 12}
        c["cfg"] |= {"ladder_dim": 64, "num_layers": 3, "dim_ffn": 512, "input_size": 416}
        keys = golden(shared, f"keys_etris_{size}.json")["keys"]
        assert literal_etris.shapes(c) == {key["name"]: tuple(key["shape"]) for key in keys}


@pytest.mark.parametrize("vit", [False, True])
@pytest.mark.parametrize("fused", [1, 2, 3])
def test_unusual_configurations_are_read_too(vit: bool, fused: int) -> None:
    c = configuration(vit, multi_stage=fused, ladder_dim=12, num_layers=2, dim_ffn=24, nhead=3, num_head=2)
    weights = {name: torch.empty(shape) for name, shape in literal_etris.shapes(c).items()}
    found, expected = etris_config(weights, ConversionOptions(bridge_heads=3, heads=2)), arguments(c)
    assert found.pop("clip").items() >= expected.pop("clip").items()
    assert found == {key: expected[key] for key in found}
    assert set(expected) - set(found) == {"dropout", "max_tokens", "tokenizer", "preprocess"}


def test_what_does_not_fit_is_named() -> None:
    weights = {name: torch.empty(shape) for name, shape in literal_etris.shapes(configuration()).items()}
    with pytest.raises(ValueError, match=r"neck\.f4_proj\.0\.weight is missing"):
        etris_config({name: value for name, value in weights.items() if "f4_proj" not in name})
    with pytest.raises(ValueError, match=r"bridges must be at the last stages, not at \[0, 2\]"):
        etris_config({name: value for name, value in weights.items() if "linear1.1" not in name})
    with pytest.raises(ValueError, match="3 heads don't fit: they must divide the bridges' width 8"):
        etris_config(weights, ConversionOptions(bridge_heads=3))
    with pytest.raises(ValueError, match="5 heads don't fit: they must divide the decoder's width 32"):
        etris_config(weights, ConversionOptions(heads=5))
    with pytest.raises(ValueError, match="neither those of a published network"):
        kind_of([name for name in weights if "bridger" not in name])
