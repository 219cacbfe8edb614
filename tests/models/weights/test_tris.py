"""Files of TRIS's key layout, made up and at full size: both stages are told apart, mapped and counted."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models.clip.test_towers import PRESETS
from models.small_tris import ARGUMENTS, WORDS, as_batch, far, golden, second_stage
from torch import Tensor

from maskris.experiments.recipe import read_recipe
from maskris.models.base import RISModel
from maskris.models.encoders.tokenizers import build_clip_tokenizer
from maskris.models.loading import load_model
from maskris.models.tris.model import TRIS
from maskris.models.tris_localizer import TRISLocalizer
from maskris.models.weights.convert import convert_checkpoint, load_official
from maskris.models.weights.networks import NETWORKS, kind_of
from maskris.models.weights.options import ConversionOptions
from maskris.models.weights.rules import dropped, map_state

STAGES: dict[str, type[RISModel]] = {"tris-localizer": TRISLocalizer, "tris": TRIS}
POOL = {"positional_embedding": (5, 256)} | {
    f"{part}_proj.{kind}": (256, 256) if kind == "weight" else (256,) for part in "qkvc" for kind in ("weight", "bias")
}


def published(shared: Path, stage: str) -> dict[str, Tensor]:
    """What a file of a stage holds, tiny: all of CLIP, the attention pool too, which the golden files leave out."""
    weights = second_stage(shared) if stage == "tris" else golden(shared, "tris_stage1_state.safetensors")
    return weights | {f"backbone.visual.attnpool.{name}": torch.randn(shape) for name, shape in POOL.items()}


@pytest.fixture
def options(tmp_path: Path) -> ConversionOptions:
    build_clip_tokenizer(WORDS).save_pretrained(tmp_path / "clip")
    return ConversionOptions(tokenizer=str(tmp_path / "clip"), max_tokens=12)


@pytest.mark.parametrize("stage", STAGES)
@torch.no_grad()
def test_a_published_file_becomes_a_folder_with_the_golden_maps(
    stage: str, shared: Path, tmp_path: Path, options: ConversionOptions
) -> None:
    torch.save({"model": published(shared, stage)}, tmp_path / "stage.pth")
    report = convert_checkpoint(tmp_path / "stage.pth", tmp_path / "out", options=options)
    assert report.kind == stage
    assert NETWORKS[stage].label in str(report)
    reasons = {reason: len(names) for reason, names in report.dropped.items()}
    assert reasons == {
        "CLIP's attention pool, whose output is not used": 9,
        "the temperature of CLIP's contrastive loss, unused in the features": 1,
    }
    model, case = load_model(tmp_path / "out"), golden(shared, "tris_case.safetensors")
    assert type(model) is STAGES[stage]
    assert model.preprocess.size == (320, 320)
    assert (model.tokenizer.max_length, model.tokenizer.keep_end_token) == (12, False), "as it was trained"
    batch = as_batch(case["img"], case["word_ids"])
    if stage == "tris":
        assert far(model.upsample(model(batch), (64, 96)), case["s2_eval_logits"]) < 1e-4
    else:
        assert isinstance(model, TRISLocalizer)
        own = model.train()(batch)[range(3), range(3)][:, None]
        assert far(model.upsample(own, (64, 96)).relu(), case["train_relu_map"]) < 2e-4
        assert model.logit_scale.item() == pytest.approx(2.65625), "the file's own, in half precision there"


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_missing_or_unknown_is_named(stage: str, shared: Path, tmp_path: Path, options: Any) -> None:
    weights = published(shared, stage)
    name = "attention3.Wk.bias" if stage == "tris" else "attn_fusion.t_output.0.bias"
    torch.save({"model": {key: value for key, value in weights.items() if key != name}}, tmp_path / "less.pth")
    with pytest.raises(ValueError, match=r"nothing was found for (attentions\.1\.key|prompt\.text_output)\.bias"):
        convert_checkpoint(tmp_path / "less.pth", tmp_path / "out", options=options)
    torch.save({"model": weights | {"surprise.weight": torch.ones(1)}}, tmp_path / "more.pth")
    with pytest.raises(ValueError, match=r"unknown key surprise\.weight"):
        convert_checkpoint(tmp_path / "more.pth", tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()


def test_the_stages_are_told_apart(shared: Path) -> None:
    for stage in STAGES:
        assert kind_of(published(shared, stage)) == stage
    with pytest.raises(ValueError, match="do not fit TRIS "):
        load_official(TRIS(**ARGUMENTS, widths=[8, 16, 32, 64]), published(shared, "tris-localizer"))


@pytest.mark.parametrize("stage", STAGES)
def test_every_parameter_has_a_published_name(stage: str, shared: Path) -> None:
    """The state of ours is filled by the rules, each name once."""
    weights = published(shared, stage)
    ours, _, unknown = map_state(weights, NETWORKS[stage].rules)
    left = sum(map(len, dropped(weights, NETWORKS[stage].rules).values()))
    fused = sum(name.endswith(("in_proj_weight", "in_proj_bias")) for name in weights)
    assert unknown == []
    assert len(ours) == len(weights) - left + 2 * fused
    model = STAGES[stage](**NETWORKS[stage].configure(weights, ConversionOptions()), tokenizer=WORDS, max_tokens=12)
    assert set(ours) == set(model.state_dict())


@pytest.mark.parametrize(("recipe", "millions"), [("tris-localize", 113.6), ("tris-refcoco-maskris", 142.1)])
def test_the_recipes_build_networks_of_the_published_size(recipe: str, millions: float) -> None:
    read = read_recipe(recipe)["model"]
    arguments = read["init_args"] | {"clip": PRESETS["RN50"], "tokenizer": ["a"]}
    network = {"maskris.TRIS": TRIS, "maskris.TRISLocalizer": TRISLocalizer}[read["class_path"]]
    with torch.device("meta"):
        model = network(**arguments)
        default = network(clip=PRESETS["RN50"], tokenizer=["a"], keep_end_token=False)
    assert model.config == default.config
    # Of OpenAI: the pool's positions for 7 x 7 cells, three square projections and one to the common space.
    pool = 50 * 2048 + 3 * (2048**2 + 2048) + 2048 * 1024 + 1024
    assert round((sum(p.numel() for p in model.parameters()) + pool) / 1e6, 1) == millions
