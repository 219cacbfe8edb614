"""The first stage of TRIS against the official network, and what a user of it relies on, whatever the weights."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from models.expressions import batch_of
from models.small_tris import as_batch, far, golden, small_localizer, tiny_localizer
from models.tris.test_model import rates
from safetensors.torch import save_file
from torch import Tensor

from maskris.models.clip.resnet import ModifiedResNet
from maskris.models.clip.scorer import CLIPScorer
from maskris.models.loading import load_model
from maskris.models.tris_localizer import TRISLocalizer
from maskris.training.config import TrainingConfig
from maskris.training.optimizer import make_optimizer


@pytest.fixture
def case(shared: Path) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = golden(shared, "tris_case.safetensors")
    return loaded


@torch.no_grad()
def test_golden_features_text_and_fusion(shared: Path, case: dict[str, Tensor]) -> None:
    model = tiny_localizer(shared)
    visual = model.clip.visual
    assert isinstance(visual, ModifiedResNet)
    words, sentence = model.clip.text(case["word_ids"])
    images, texts = model.encode_image(case["img"]), model.encode_text(case["word_ids"])
    for_images, for_texts = model.prompt(images, texts.expand(3, -1, -1))
    found = {
        "c4": visual.stages(case["img"])[3],
        "word_features": words,
        "text_hidden": sentence,
        "norm_vis": images,
        "norm_lan": texts.T.expand(3, -1, -1),
        "fusion_vis": for_images,
        "fusion_lan": for_texts,
    }
    assert {name: far(value, case[name]) for name, value in found.items()} == pytest.approx(
        dict.fromkeys(found, 0), abs=1e-4
    )


@torch.no_grad()
def test_golden_maps_of_a_batch_in_evaluation_mode(shared: Path, case: dict[str, Tensor]) -> None:
    """The official network joins all pairs of a batch there, too; only its evaluation has batches of one."""
    model = tiny_localizer(shared)
    texts = model.encode_text(case["word_ids"]).expand(3, -1, -1)
    own = model.scores(model.encode_image(case["img"]), texts)[range(3), range(3)][:, None]
    assert far(model.upsample(own, (64, 96)), case["eval_out"]) < 2e-4
    apart = model.upsample(model(as_batch(case["img"], case["word_ids"])), (64, 96))
    assert far(apart, case["eval_out"]) > 0.01, "a pair alone has another map than one among others"


@torch.no_grad()
def test_golden_validation_maps(shared: Path, case: dict[str, Tensor]) -> None:
    """Several expressions of one photo at once have the maps that each has alone, which is how they were published."""
    model, compared = tiny_localizer(shared), 0
    for image in range(3):
        ids = case[f"val{image}_word_ids"]
        features = model.encode_image(case[f"val{image}_img"])
        scores = model.segment(features, ids, (ids != 0).long(), torch.zeros(len(ids), dtype=torch.long))
        maps = F.interpolate(model.upsample(scores, (64, 96)), (75, 100), mode="bilinear", align_corners=True)
        for number, one in enumerate(maps[:, 0]):
            published = case[f"validate_cam/{image}_{number}_10{image}"]
            assert far(one / (one.max() + 1e-5), published) < 1e-4
            compared += 1
    assert compared == 6


@torch.no_grad()
def test_golden_numbers_of_the_validation(shared: Path, case: dict[str, Tensor]) -> None:
    described = golden(shared, "tris_case.json")
    intersections, unions = [], []
    for image in range(3):
        for number in range(image + 1):
            mask = case[f"validate_cam/{image}_{number}_10{image}"] > 1e-9
            truth = case[f"val{image}_mask"].bool()
            intersections.append((mask & truth).sum().item())
            unions.append((mask | truth).sum().item())
    overall = 100 * sum(intersections) / sum(unions)
    mean = 100 * sum(i / u for i, u in zip(intersections, unions, strict=True)) / len(unions)
    assert [overall, mean] == pytest.approx(described["validate_oIoU_mIoU_hitBox"][:2], abs=1e-3)


@torch.no_grad()
def test_golden_selection_of_response_maps(shared: Path, case: dict[str, Tensor], tmp_path: Path) -> None:
    """The map whose remains of the photo fit all expressions best: raw scores, resized to the scorer's input."""
    save_file(golden(shared, "tris_scorer_state.safetensors"), tmp_path / "scorer.safetensors")
    model, scorer = tiny_localizer(shared), CLIPScorer(str(tmp_path / "scorer.safetensors"))
    selected = []
    for image in range(3):
        ids, photo = case[f"val{image}_word_ids"], case[f"val{image}_img"]
        scores = model.segment(model.encode_image(photo), ids, ids, torch.zeros(len(ids), dtype=torch.long))
        maps = model.upsample(scores, (64, 96))  # [K, 1, H, W]
        seen = scorer.embed_images(photo.expand(len(ids), -1, -1, -1), maps)
        best = int((seen @ scorer.embed_texts(ids).T).sum(1).argmax())
        selected.append(best)
        kept = F.interpolate(maps[best : best + 1], (75, 100), mode="bilinear", align_corners=True)[0, 0]
        assert far(kept / (kept.max() + 1e-5), case[f"prms_cam/{image}_10{image}"]) < 1e-4
    assert selected == golden(shared, "tris_case.json")["prms_selected"]


@torch.no_grad()
def test_golden_maps_in_training_mode(shared: Path, case: dict[str, Tensor]) -> None:
    model = tiny_localizer(shared).train()
    scores = model(as_batch(case["img"], case["word_ids"]))
    assert scores.shape == (3, 3, 2, 3)
    maps = model.upsample(scores[range(3), range(3)][:, None], (64, 96))
    assert far(maps.relu(), case["train_relu_map"]) < 2e-4
    assert far(maps.sigmoid(), case["train_sigmoid_map"]) < 1e-4


@pytest.fixture(scope="module")
def model() -> TRISLocalizer:
    return small_localizer()


@torch.no_grad()
def test_many_expressions_per_image_equal_one_at_a_time(model: TRISLocalizer) -> None:
    images = torch.randn(2, 3, 64, 96)
    batch = batch_of(model, images, ["the red circle", "left", "right of the square"], [1, 0, 1])
    together = model(batch)
    assert together.shape == (3, 1, 2, 3)
    for i, (expression, image) in enumerate((("the red circle", 1), ("left", 0), ("right of the square", 1))):
        alone = model(batch_of(model, images[image : image + 1], [expression], [0]))
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-4)
    assert (together[0] - together[2]).abs().max() > 0.1, "the words must matter"
    swapped = model(batch_of(model, images.flip(0), ["the red circle", "left", "right of the square"], [1, 0, 1]))
    assert (together - swapped).abs().amax((1, 2, 3)).min() > 0.1, "the image must matter"


@torch.no_grad()
def test_in_training_all_images_meet_all_texts() -> None:
    model = small_localizer().train()
    batch = batch_of(model, torch.randn(2, 3, 64, 96), ["the red circle", "left", "right of the square"], [1, 0, 1])
    assert model(batch).shape == (2, 3, 2, 3)
    scores = torch.randn(1, 1, 2, 3)
    assert model.upsample(scores, (64, 96)).min() < 0, "a sigmoid follows, which needs the negative ones"


@torch.no_grad()
def test_padding_does_not_matter(model: TRISLocalizer) -> None:
    images = torch.randn(1, 3, 64, 64)
    short = model(batch_of(model, images, ["the red circle"], [0]))
    torch.testing.assert_close(model(batch_of(model, images, ["the red circle"], [0], pad_to=10)), short)


def test_rates_of_the_first_stage(model: TRISLocalizer) -> None:
    found = rates(model)
    assert set(found) == set(dict(model.named_parameters())), "all parameters learn"
    assert {name for name, rate in found.items() if rate == 0.1} == {n for n in found if n.startswith("clip.")}
    assert sum(not name.startswith("clip.") for name in found) == 28


def test_the_temperature_is_saved_and_never_learns(model: TRISLocalizer, tmp_path: Path) -> None:
    assert TRISLocalizer(**model.config, tokenizer=["a"]).logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    assert "logit_scale" in model.state_dict()
    held = {id(p) for group in make_optimizer(model, TrainingConfig(steps=1)).param_groups for p in group["params"]}
    assert id(model.logit_scale) not in held
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert isinstance(again, TRISLocalizer)
    assert again.logit_scale == model.logit_scale
    assert again.config == model.config


def test_a_batch_of_one_image_and_text_can_be_seen(model: TRISLocalizer) -> None:
    """With one text nothing is learned from others: what is added to the image is the same at all places."""
    images = model.encode_image(torch.randn(1, 3, 64, 64))
    added, _ = model.prompt(images, model.encode_text(torch.tensor([[50, 3, 59]]))[:, None])
    assert added.std((2, 3)).max() < 1e-2
