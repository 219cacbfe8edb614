"""What docs/strategies.md shows can be run."""

import re
from pathlib import Path

import pytest
import yaml
from strategies.toys import toy, toy_batch

from maskris.experiments.recipe import Recipe, find
from maskris.utils.rng import Random

TEXT = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text(encoding="utf-8")


def test_the_method_of_ones_own_runs():
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names = {"__name__": "docs"}
    exec(compile(block, "docs/strategies.md", "exec"), names)
    strategy = names["NoisyTwin"]()
    losses = [loss.item() for loss in strategy.losses(toy(), toy_batch(), Random(0))]
    assert len(losses) == strategy.passes == 2
    assert losses[0] != losses[1]


def test_its_snippets_are_strategies(tmp_path):
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
    ours = [block["strategy"] for block in blocks if block["strategy"]["class_path"].startswith("maskris.")]
    assert ours
    for strategy in ours:
        values = yaml.safe_load(find("shapes-maskris").read_text()) | {"strategy": strategy}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
        built = Recipe(tmp_path / "recipe.yaml").instantiate()[1]
        assert {key: getattr(built, key) for key in strategy["init_args"]} == strategy["init_args"]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(maskris\.[A-Z]\w+)`", TEXT))))
def test_the_classes_it_names_exist(path):
    built = Recipe("shapes-supervised", ["--strategy", path]).instantiate()[1]
    assert type(built).__name__ == path.split(".")[-1]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(shapes-[\w-]+)`", TEXT))))
def test_the_recipes_it_names_exist(name):
    assert find(name).is_file()
