"""Augmentations by recipe and command line: typed, kept with the run, and part of what it is."""

import os
import re
import signal
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from maskris.data.augment import Augmentation, CutOut, HorizontalFlip
from maskris.experiments.recipe import Recipe, RecipeError, Splits, read_recipe, shipped
from maskris.training.logging import Tracker

FLIP = "[{class_path: maskris.data.augment.HorizontalFlip, init_args: {swap_words: true}}]"


def weights(folder):
    return load_file(folder / "last" / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", shipped())
def test_nothing_is_augmented_unless_a_recipe_says_so(name):
    assert Recipe(name).augmentations == ()


def test_augmentations_are_named_on_the_command_line(tmp_path):
    recipe = Recipe("shapes-supervised", [f"--data.augment={FLIP}"])
    (flip,) = recipe.augmentations
    assert type(flip) is HorizontalFlip
    assert (flip.p, flip.swap_words) == (0.5, True)
    assert recipe.splits == Splits(test=("val", "testA", "testB"))
    (tmp_path / "again.yaml").write_text(recipe.to_yaml())
    again = Recipe(tmp_path / "again.yaml", ["--data.augment+={class_path: CutOut, init_args: {scale: [0.1, 0.2]}}"])
    flip, hidden = again.augmentations
    assert type(flip) is HorizontalFlip
    assert type(hidden) is CutOut
    assert hidden.scale == (0.1, 0.2)
    kept = yaml.safe_load(again.to_yaml())["data"]["augment"]
    assert kept[0] == {"class_path": "maskris.data.augment.HorizontalFlip", "init_args": {"p": 0.5, "swap_words": True}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[{class_path: CutOut, init_args: {scal: [0.1, 0.2]}}]", "unknown key data.augment.scal; did you mean"),
        ("[{class_path: CutOut, init_args: {p: often}}]", "data.augment.p: expected float, not often"),
        ("[{class_path: CutOut, init_args: {p: 3}}]", "data.augment: CutOut: p must lie in [0, 1], not 3"),
        ("[{class_path: maskris.CARIS}]", "maskris.CARIS does not correspond to a subclass of Augmentation"),
        ("flip", "data.augment: expected list, not flip"),
    ],
)
def test_what_is_wrong_is_named(value, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        _ = Recipe("shapes-supervised", [f"--data.augment={value}"]).augmentations


def test_a_run_is_trained_with_them_and_continued_with_no_others(recipe, table, run, maskris, tmp_path, monkeypatch):
    command = ["train", recipe, "--data", table, f"--data.augment={FLIP}", "--out"]
    assert maskris(*command, tmp_path / "whole")[0] == 0
    assert not same(weights(tmp_path / "whole"), weights(run))
    advance = Tracker.advance

    def stop(self, step):
        advance(self, step)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "advance", stop)
        assert maskris(*command, tmp_path / "stopped")[0] == 128 + signal.SIGTERM
    for other in ("[]", FLIP.replace("true", "false"), "[{class_path: Grayscale}]"):
        code, _, err = maskris(
            "train", recipe, "--data", table, f"--data.augment={other}", "--out", tmp_path / "stopped"
        )
        assert code == 1
        assert "belongs to another run" in err
        assert "augment.0" in err
    assert "augment.0: 'HorizontalFlip' there, 'Grayscale' now" in err
    assert maskris(*command, tmp_path / "stopped")[0] == 0
    assert same(weights(tmp_path / "stopped"), weights(tmp_path / "whole"))


def test_help_says_that_there_are_augmentations(maskris):
    code, out, _ = maskris("train", "--help")
    assert code == 0
    assert "--data.augment" in out


def test_what_the_docs_say_can_be_run(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"## Augmentations\n(.*?)\n## ", text, flags=re.DOTALL)
    (option,) = re.findall(r"'(\[.*?\])'", section)
    assert [type(one) for one in Recipe("shapes-supervised", [f"--data.augment={option}"]).augmentations] == [
        HorizontalFlip,
    ]  # fmt: skip
    (block,) = re.findall(r"```yaml\n(.*?)```", section, flags=re.DOTALL)
    values = read_recipe("shapes-supervised")
    values["data"] |= yaml.safe_load(block)["data"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    assert [type(one) for one in Recipe(tmp_path / "mine.yaml").augmentations] == [HorizontalFlip, CutOut]
    described = set(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE))
    assert described == {one.__name__ for one in Augmentation.__subclasses__() if one.__module__.startswith("maskris.")}
