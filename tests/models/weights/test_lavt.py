"""The real LAVT on the meta device against the official lists of parameters, and the reading of its configuration."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from models import literal_lavt
from torch import Tensor

from maskris.models.lavt import LAVT
from maskris.models.weights.convert import load_official
from maskris.models.weights.lavt import LAVT_RULES, lavt_config
from maskris.models.weights.networks import kind_of
from maskris.models.weights.options import ConversionOptions
from maskris.models.weights.rules import dropped, rename

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
    "base_window12": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12},
}


@pytest.fixture(scope="module", params=SIZES)
def real(shared: Path, request: pytest.FixtureRequest) -> tuple[str, LAVT, dict[str, Any]]:
    with torch.device("meta"):
        model = LAVT({"model_type": "swin", **SIZES[request.param]}, {"model_type": "bert"}, tokenizer=["a"])
    path = shared / "reference" / "lavt" / f"keys_lavt_one_swin_{request.param}.json"
    return request.param, model, json.loads(path.read_text())


def empty(listed: dict[str, Any]) -> dict[str, Tensor]:
    return {key["name"]: torch.empty(key["shape"], device="meta") for key in listed["keys"]}


def test_every_key_is_mapped_to_the_right_shape_or_knowingly_dropped(real: tuple[str, LAVT, dict[str, Any]]) -> None:
    _, model, listed = real
    ours = {name: list(value.shape) for name, value in model.state_dict().items()}
    filled = set()
    for key in listed["keys"]:
        names = rename(key["name"], LAVT_RULES)
        assert names is not None, key["name"]
        for name in names:
            rows = key["shape"][:1] if len(names) < 3 else [key["shape"][0] // 3]
            assert ours[name] == rows + key["shape"][1:], key["name"]
            assert name not in filled, f"{name} is filled twice"
            filled.add(name)
    assert filled == set(ours)


def test_of_what_learns_only_the_gate_that_nobody_reads_is_dropped(real: tuple[str, LAVT, dict[str, Any]]) -> None:
    _, model, listed = real
    left = dropped((key["name"] for key in listed["keys"] if key["kind"] == "param"), LAVT_RULES)
    assert [*left.values()] == [["backbone.layers.3.res_gate.0.weight", "backbone.layers.3.res_gate.2.weight"]]
    gate = 2 * model.vision.channels[3] ** 2
    assert sum(parameter.numel() for parameter in model.parameters()) == listed["total_parameters"] - gate


def test_optimizer_groups_follow_the_official_names(real: tuple[str, LAVT, dict[str, Any]]) -> None:
    """Section Optimizer of ARCHITECTURE, on the official names: what is decayed, what is not, what never moves."""
    _, model, listed = real
    official: dict[str, float | None] = {}
    for key in listed["keys"]:
        name = key["name"]
        if name.startswith("backbone."):
            decay: float | None = 0.0 if "norm" in name or "relative_position_bias_table" in name else 0.01
        elif name.startswith("classifier."):
            decay = 0.01
        else:
            decay = 0.01 if any(f"encoder.layer.{i}." in name for i in range(10)) else None
        official |= {ours: decay for ours in rename(name, LAVT_RULES) or [] if key["kind"] == "param"}
    groups = model.parameter_groups(lr=5e-5, weight_decay=0.01)
    assert {group["lr"] for group in groups} == {5e-5}
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert len(decays) == sum(len(group["params"]) for group in groups)
    assert {name: decays.get(id(parameter)) for name, parameter in model.named_parameters()} == official
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        name for name, decay in official.items() if decay is None
    }


def test_the_configuration_is_read_off_the_shapes(real: tuple[str, LAVT, dict[str, Any]]) -> None:
    size, model, listed = real
    weights = empty(listed)
    found = lavt_config(weights)
    assert {key: found["vision"][key] for key in SIZES[size]} == SIZES[size]
    assert found["text"]["num_hidden_layers"] == found["text"]["num_attention_heads"] == 12
    assert (found["fusion_heads"], found["keep_end_token"]) == ([1, 1, 1, 1], False)
    assert lavt_config(weights, ConversionOptions(fusion_heads=(2, 2, 4, 4), window=8))["fusion_heads"] == [2, 2, 4, 4]
    assert kind_of(weights) == "lavt"
    with pytest.raises(ValueError, match="neither those of a published network"):
        kind_of(model.state_dict())
    assert literal_lavt.shapes(found) == {name: tuple(value.shape) for name, value in weights.items()}


def test_weights_without_their_text_encoder_say_where_it_is(real: tuple[str, LAVT, dict[str, Any]]) -> None:
    weights = empty(real[2])
    alone = {name: value for name, value in weights.items() if not name.startswith("text_encoder.")}
    assert kind_of(alone) == "lavt"
    with pytest.raises(ValueError, match=r"no text encoder.*its dict bert_model holds, with text_encoder\. before"):
        lavt_config(alone)


SMALL: dict[str, Any] = {
    "vision": {"model_type": "swin", "embed_dim": 8, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 2, 4]}
    | {"window_size": 5},
    "text": {"model_type": "bert", "vocab_size": 31, "hidden_size": 64, "num_hidden_layers": 3}
    | {"num_attention_heads": 1, "intermediate_size": 20, "max_position_embeddings": 9},
    "fusion_heads": [1, 1, 1, 1],
}


def test_the_variant_with_bert_outside_loads_once_joined() -> None:
    weights = {name: torch.from_numpy(value) for name, value in literal_lavt.random_weights(SMALL, 0).items()}
    bert = {n.removeprefix("text_encoder."): value for n, value in weights.items() if n.startswith("text_encoder.")}
    bert |= {"pooler.dense.weight": torch.zeros(64, 64), "pooler.dense.bias": torch.zeros(64)}
    bert["embeddings.position_ids"] = torch.arange(9)[None]
    network = {name: value for name, value in weights.items() if not name.startswith("text_encoder.")}
    joined = network | {f"text_encoder.{name}": value for name, value in bert.items()}
    found = lavt_config(joined)
    assert {key: found[part][key] for part in ("vision", "text") for key in SMALL[part]} == {
        **SMALL["vision"],
        **SMALL["text"],
    }
    model = LAVT(**found, tokenizer=["a"])
    load_official(model, joined)
    assert torch.equal(model.gates[2].outer.weight, weights["backbone.layers.2.res_gate.2.weight"])
    assert torch.equal(model.decoder.blocks[1][3].weight, weights["classifier.conv2_3.weight"])


def test_what_does_not_fit_is_named() -> None:
    weights = {name: torch.from_numpy(value) for name, value in literal_lavt.random_weights(SMALL, 0).items()}
    model = LAVT(**SMALL, tokenizer=["a"])
    del weights["classifier.bn1_3.running_mean"]
    weights["backbone.layers.0.fusion.vis_project.0.weight"] = torch.zeros(8, 9, 1)
    weights["backbone.layers.4.res_gate.0.weight"] = torch.zeros(8, 8)
    with pytest.raises(ValueError, match=r"do not fit LAVT \(3 problem\(s\)\)") as caught:
        load_official(model, weights)
    assert "nothing was found for decoder.blocks.1.1.running_mean" in str(caught.value)
    assert "backbone.layers.0.fusion.vis_project.0.weight has shape [8, 9, 1]" in str(caught.value)
    assert "backbone.layers.4.res_gate.0.weight has no place in this model (as gates.4.inner.weight)" in str(
        caught.value
    )
