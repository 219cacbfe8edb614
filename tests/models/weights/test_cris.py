"""The real configurations on the meta device against the official lists of parameters and shapes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import literal_cris
from models.clip.test_towers import PRESETS
from models.small_cris import arguments, configuration, golden

from maskris.experiments.recipe import read_recipe
from maskris.models.cris.model import CRIS
from maskris.models.weights.cris import CRIS_RULES, cris_config
from maskris.models.weights.networks import kind_of
from maskris.models.weights.options import ConversionOptions
from maskris.models.weights.rules import dropped, rename


@pytest.fixture(scope="module", params=["RN50", "RN101"])
def real(shared: Path, request: pytest.FixtureRequest) -> tuple[str, CRIS, dict[str, Any]]:
    described = golden(shared, f"keys_cris_r{request.param[2:]}.json")
    weights = {key["name"]: torch.empty(key["shape"], device="meta") for key in described["keys"]}
    with torch.device("meta"):
        model = CRIS(**cris_config(weights), tokenizer=["a"])
    return request.param, model, described


def test_every_key_is_mapped_to_the_right_shape_or_knowingly_dropped(real: tuple[str, CRIS, dict[str, Any]]) -> None:
    _, model, described = real
    ours = {name: list(value.shape) for name, value in model.state_dict().items()}
    filled = set()
    for key in described["keys"]:
        names = rename(key["name"], CRIS_RULES)
        assert names is not None, key["name"]
        for name in names:
            rows = key["shape"][:1] if len(names) == 1 else [key["shape"][0] // 3]
            assert ours[name] == rows + key["shape"][1:], key["name"]
            assert name not in filled, f"{name} is filled twice"
            filled.add(name)
    assert filled == set(ours)


def test_only_the_temperature_is_dropped(real: tuple[str, CRIS, dict[str, Any]]) -> None:
    _, model, described = real
    left = dropped((key["name"] for key in described["keys"]), CRIS_RULES)
    assert list(left.values()) == [["backbone.logit_scale"]]
    assert sum(parameter.numel() for parameter in model.parameters()) == described["total_parameters"] - 1


def test_the_defaults_are_the_published_configuration(real: tuple[str, CRIS, dict[str, Any]]) -> None:
    name, model, _ = real
    with torch.device("meta"):
        default = CRIS(clip=PRESETS[name], tokenizer=["a"])
    assert default.config == model.config


def test_the_recipes_build_the_published_networks(real: tuple[str, CRIS, dict[str, Any]]) -> None:
    name, model, _ = real
    recipe = "cris-refcoco-supervised" if name == "RN50" else "cris-r101-refcoco-supervised"
    arguments = read_recipe(recipe)["model"]["init_args"]
    assert arguments["clip"] == name
    with torch.device("meta"):
        made = CRIS(**arguments | {"clip": PRESETS[name], "tokenizer": ["a"]})
    assert {key: value.shape for key, value in made.state_dict().items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }


def test_cris_is_told_from_its_kin(shared: Path) -> None:
    weights = literal_cris.random_weights(configuration(), 0)
    assert kind_of(weights) == "cris"
    kin = golden(shared, "../etris/keys_etris_r50.json")
    assert kind_of([key["name"] for key in kin["keys"]]) == "etris"


def test_the_configuration_of_a_small_one() -> None:
    c = configuration(num_layers=2)
    found = cris_config(literal_cris.random_weights(c, 0), ConversionOptions(heads=4))
    expected = arguments(c)
    assert {key: found[key] for key in found if key != "clip"} == {
        key: expected[key] for key in ("fpn_out", "num_layers", "num_head", "dim_ffn")
    }
    assert found["clip"] == c["clip"] | {"context_length": 77}


def test_heads_that_cannot_be_are_refused() -> None:
    weights = literal_cris.random_weights(configuration(), 0)
    with pytest.raises(ValueError, match="5 heads don't fit"):
        cris_config(weights, ConversionOptions(heads=5))
    with pytest.raises(ValueError, match=r"neck\.f3_v_proj\.0\.weight is missing"):
        cris_config({name: value for name, value in weights.items() if "f3_v_proj" not in name})
