"""The README says what is there."""

import re
from pathlib import Path

import pytest

from maskris.apps.cli import COMMANDS
from maskris.apps.recipe import find

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_commands_and_recipes_exist():
    commands = re.findall(r"^maskris (\w+) ", TEXT, flags=re.MULTILINE)
    assert len(commands) >= 5
    assert set(commands) <= set(COMMANDS)
    for recipe in re.findall(r"^maskris train (\S+)", TEXT, flags=re.MULTILINE):
        assert find(recipe).is_file()


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!http)[^)]+)\)", TEXT))
def test_its_links_lead_somewhere(link):
    assert (ROOT / link).is_file()


def test_ci_runs_the_test_command():
    command = re.search(r"^(pip install -e .*? && pytest)", TEXT, flags=re.MULTILINE)
    assert command is not None
    assert command[1] in (ROOT / ".ci/run").read_text(encoding="utf-8")
