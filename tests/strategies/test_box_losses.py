"""Losses of boxes: against reference values, and what they mean."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from maskris.strategies.box_losses import (
    color_similarity,
    lab_colors,
    pairwise_disagreement,
    pairwise_loss,
    projection_loss,
)


def test_both_losses_have_the_values_and_gradients_of_the_reference(shared: Path) -> None:
    folder = shared / "reference" / "weak"
    case, values = load_file(folder / "pseudo_case.safetensors"), json.loads((folder / "pseudo_case.json").read_text())
    boxes = case["box_bitmask"][:, 0]
    image = torch.nn.functional.avg_pool2d(case["box_image"].float(), 4).floor() / 255
    torch.testing.assert_close(lab_colors(image), case["box_lab"], atol=1e-3, rtol=0)
    similarity = color_similarity(case["box_lab"], case["box_valid"][None, None])
    torch.testing.assert_close(similarity, case["box_similarity"], atol=1e-4, rtol=1e-4)
    logits = case["box_logits"][:, 0]
    torch.testing.assert_close(pairwise_disagreement(logits), case["box_pairwise"], atol=1e-4, rtol=1e-4)
    for name, loss in (
        ("projection", lambda z: projection_loss(z, boxes)),
        ("pairwise", lambda z: pairwise_loss(z, boxes, similarity.expand(len(z), -1, -1, -1))),
    ):
        leaf = logits.clone().requires_grad_()
        value = loss(leaf)
        value.backward()
        assert value.item() == pytest.approx(values[f"box_{name}"], abs=1e-4)
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad, case[f"box_grad_{name}"][:, 0], atol=1e-5, rtol=1e-4)


def test_a_mask_that_touches_all_sides_of_its_box_has_no_projection_loss() -> None:
    box = torch.zeros(1, 8, 8)
    box[:, 2:6, 1:7] = 1
    cross = torch.zeros_like(box)
    cross[:, 2:6, 3] = 1
    cross[:, 4, 1:7] = 1
    assert projection_loss(cross * 60 - 30, box) < 1e-4
    assert projection_loss(torch.full_like(box, 30.0), box) > 0.2
