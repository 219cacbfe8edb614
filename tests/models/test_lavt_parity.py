"""LAVT against the official network: golden tensors, and a literal reference in double precision.

The golden tensors are noisy. The official network computes them in single precision, and what its instance norms bring
to a spread of one hardly differs from pixel to pixel, so that they blow up the rounding. Hence this chain: literal and
ours agree within 1e-9 in double precision; the golden tensors lie within their own noise of both; and what is not noisy
(words, decoder, upsampling) is held tightly. Real mistakes move the logits by 0.3 and more.
"""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import without_dropout
from models import literal_lavt
from safetensors.torch import load_file
from torch import Tensor

from maskris.batch import Batch
from maskris.models.lavt import LAVT
from maskris.models.weights.convert import load_official
from maskris.models.weights.lavt import LAVT_RULES
from maskris.models.weights.rules import rename
from maskris.strategies.criteria.masks import MaskCriterion

NOISE = 6e-3  # of the golden maps and logits


def largest(ours: Tensor, expected: Any) -> float:
    expected = torch.as_tensor(np.asarray(expected))
    assert ours.shape == expected.shape
    return (ours.double() - expected.double()).abs().max().item()


def folder(shared: Path) -> Path:
    return shared / "reference" / "lavt"


@pytest.fixture(scope="module")
def info(shared: Path) -> dict[str, Any]:
    return json.loads((folder(shared) / "lavt_tiny_case1.json").read_text())


@pytest.fixture(scope="module")
def case(shared: Path) -> dict[str, Tensor]:
    return load_file(folder(shared) / "lavt_tiny_case1.safetensors")


@pytest.fixture(scope="module")
def arguments(info: dict[str, Any]) -> dict[str, Any]:
    swin = info["config"]["swin"]
    return {
        "vision": {"model_type": "swin"}
        | {key: swin[key] for key in ("embed_dim", "depths", "num_heads", "window_size")},
        "text": {"model_type": "bert", **info["config"]["bert"]},
        "fusion_heads": swin["num_heads_fusion"],
    }


@pytest.fixture(scope="module")
def tiny(shared: Path, arguments: dict[str, Any]) -> LAVT:
    model = LAVT(**arguments, tokenizer=["a"])
    load_official(model, load_file(folder(shared) / "lavt_tiny_state.safetensors"))
    return model.eval()


def run(model: LAVT, image: Tensor, ids: Tensor, mask: Tensor) -> dict[str, Any]:
    """Words, maps, the last attention and logits, in the model's precision."""
    seen: dict[str, Any] = {}
    last = model.fusions[3]
    hook = last.visual.register_forward_pre_hook(lambda _, args: seen.__setitem__("pixels", args[0]))
    with torch.no_grad():
        seen["words"] = model.encode_text(ids, mask)
        seen["maps"] = model.fuse(image, seen["words"], mask)
        seen["attended"] = last.attend(seen["pixels"], seen["words"], mask).transpose(1, 2)  # [N, h * w, C]
        seen["logits"] = model.segment(image, ids, mask, torch.arange(len(image)))
    hook.remove()
    return seen


@pytest.fixture(scope="module")
def exact(tiny: LAVT, case: dict[str, Tensor]) -> dict[str, Any]:
    inputs = case["image"].double(), case["input_ids"], case["attention_mask"]
    return run(copy.deepcopy(tiny).double(), *inputs)


def test_words(tiny: LAVT, case: dict[str, Tensor]) -> None:
    with torch.no_grad():
        assert largest(tiny.encode_text(case["input_ids"], case["attention_mask"]), case["bert_out"]) < 1e-5


def test_decoder(tiny: LAVT, case: dict[str, Tensor]) -> None:
    with torch.no_grad():
        logits = tiny.decoder([case[f"backbone.feat{i}"] for i in range(4)])
    assert largest(logits, case["logits_low"]) < 2e-5
    assert largest(tiny.upsample(case["logits_low"], (224, 224)), case["logits_up"]) < 2e-5


def test_maps_logits_and_masks(tiny: LAVT, exact: dict[str, Any], case: dict[str, Tensor]) -> None:
    for i in range(4):
        assert largest(exact["maps"][i], case[f"backbone.feat{i}"]) < NOISE
    assert largest(exact["attended"], case["stage4.attention_out"]) < NOISE
    assert largest(exact["logits"], case["logits_low"]) < NOISE
    up = tiny.upsample(exact["logits"], (224, 224))
    differing = up.argmax(1) != case["pred_mask"]
    assert (up[:, 1] - up[:, 0])[differing].abs().max() < NOISE, "only where noise decides"
    assert differing.double().mean() < 1e-3


def test_the_golden_tensors_are_off_by_noise_and_not_by_a_rule(exact: dict[str, Any], case: dict[str, Tensor]) -> None:
    """Their errors are as small for half of all numbers as rounding explains, and have no sign."""
    for i in range(4):
        errors = (case[f"backbone.feat{i}"].double() - exact["maps"][i]).flatten()
        assert errors.abs().median() < 5e-4
        assert errors.mean().abs() < 3e-5


def test_single_precision_is_closer_to_the_truth_than_the_official_code(
    tiny: LAVT, exact: dict[str, Any], case: dict[str, Tensor]
) -> None:
    ours = run(tiny, case["image"], case["input_ids"], case["attention_mask"])
    for i in range(4):
        error, official = ours["maps"][i] - exact["maps"][i], case[f"backbone.feat{i}"] - exact["maps"][i]
        assert error.square().mean() < 0.1 * official.square().mean()


def test_loss_and_gradients_in_training(tiny: LAVT, case: dict[str, Tensor], info: dict[str, Any]) -> None:
    model = copy.deepcopy(tiny).double()
    model.requires_grad_(True)
    without_dropout(model)
    inputs = case["image"].double(), case["input_ids"], case["attention_mask"], torch.arange(2)
    batch = Batch(*inputs, masks=case["target_mask"].bool())
    loss = MaskCriterion()(model, model(batch), batch)
    loss.backward()
    assert loss.item() == pytest.approx(info["loss_train_mode_dropout_off"], abs=1e-4)
    assert case["loss"].item() == pytest.approx(info["loss_train_mode_dropout_off"], abs=1e-6)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    compared, deviations = set(), []
    for official, norm in info["grad_norm"].items():
        names = rename(official, LAVT_RULES)
        assert names is not None
        if not names:
            assert norm is None, "what we leave out has no gradient"
            continue
        compared.update(names)
        ours = torch.cat([gradients[name].flatten() for name in names])
        if ours.norm() < 1e-8:  # biases that a norm or a softmax takes out again: the official gradient is all rounding
            assert norm < 3e-4
            assert official.endswith("bias")
            continue
        deviations.append(abs(ours.norm().item() / norm - 1))
        if f"grad.{official}" in case:
            tolerance = 1e-3 if official.startswith("classifier.") else 0.1
            assert largest(ours, case[f"grad.{official}"].flatten()) < tolerance * ours.abs().max()
    assert compared == set(gradients)
    assert max(deviations) < 0.05
    assert float(np.median(deviations)) < 0.01


def test_the_literal_reference_is_the_official_network(
    shared: Path, arguments: dict[str, Any], exact: dict[str, Any], case: dict[str, Tensor]
) -> None:
    """The judge of the unseen configurations is itself judged here."""
    state = load_file(folder(shared) / "lavt_tiny_state.safetensors")
    weights = {name: value.numpy() for name, value in state.items()}
    assert {name: value.shape for name, value in weights.items()} == literal_lavt.shapes(arguments)
    inputs = (case[name][0].numpy() for name in ("image", "input_ids", "attention_mask"))
    out = literal_lavt.lavt(weights, arguments, *inputs)
    for i in range(4):
        assert largest(torch.from_numpy(out["maps"][i]), case[f"backbone.feat{i}"][0]) < NOISE
        assert largest(exact["maps"][i][0], out["maps"][i]) < 1e-9
    assert largest(exact["attended"][0], out["attended"]) < 1e-9
    assert largest(exact["logits"][0], out["logits"]) < 1e-9


UNSEEN: dict[str, tuple[tuple[int, int], dict[str, Any], list[int]]] = {
    "window 12, several heads": ((192, 192), {"window_size": 12, "num_heads": [1, 2, 2, 4]}, [1, 2, 4, 8]),
    "odd sizes and depths": ((91, 130), {"depths": [1, 2, 3, 2], "num_heads": [2, 1, 4, 8]}, [8, 1, 2, 1]),
    "even window, one pixel on top": ((20, 32), {"window_size": 4}, [2, 2, 2, 2]),
    "every map exactly one window or less": ((28, 28), {"depths": [2, 2, 2, 2]}, [1, 1, 1, 1]),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_unseen_configurations(name: str) -> None:
    (height, width), changes, heads = UNSEEN[name]
    arguments: dict[str, Any] = {
        "vision": {"model_type": "swin", "embed_dim": 8, "depths": [2, 1, 2, 1], "num_heads": [1, 2, 4, 8]}
        | {"window_size": 7}
        | changes,
        "text": {"model_type": "bert", "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2}
        | {"num_attention_heads": 3, "intermediate_size": 40, "max_position_embeddings": 16},
        "fusion_heads": heads,
    }
    model = LAVT(**arguments, tokenizer=["a"]).eval()
    weights = literal_lavt.random_weights(arguments, seed=len(name))
    load_official(model, {key: torch.from_numpy(value) for key, value in weights.items()})

    rng = np.random.default_rng(0)
    image = rng.standard_normal((3, height, width)).astype(np.float32)
    ids, mask = rng.integers(5, 50, 9), np.array([1] * 6 + [0] * 3)
    expected = literal_lavt.lavt(weights, arguments, image, ids, mask)
    inputs = torch.from_numpy(image)[None], torch.from_numpy(ids)[None], torch.from_numpy(mask)[None]
    single = run(model, *inputs)
    double = run(model.double(), inputs[0].double(), *inputs[1:])
    for i in range(4):
        assert largest(double["maps"][i][0], expected["maps"][i]) < 1e-9
        assert largest(single["maps"][i][0], expected["maps"][i]) < 1e-3
    assert largest(double["words"][0], expected["words"]) < 1e-9
    assert np.abs(expected["logits"]).std() > 0.05, "a flat map would hide mistakes"
    assert largest(double["logits"][0], expected["logits"]) < 1e-9
