"""Every block of code in the README and the docs runs, or says what it lacks; then its commands are still checked."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from docs_blocks import PAGES, ROOT, Block, blocks_of, commands_of
from docs_page import Page
from docs_world import make_world
from tiny import single_thread

from maskris.cli.main import commands

IDS = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.fixture(scope="module", autouse=True)
def single_threaded():
    with single_thread():
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "world"
    make_world(folder)
    return folder


@pytest.fixture
def page(world, tmp_path, monkeypatch) -> Page:
    """A folder of its own for each page, in which its blocks run one after the other."""
    shutil.copytree(world, tmp_path / "page")
    shutil.copytree(ROOT / "examples", tmp_path / "page" / "examples")
    monkeypatch.chdir(tmp_path / "page")
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield Page(tmp_path / "page", monkeypatch)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.filterwarnings("ignore:The expression .* has words that this model has never seen")
@pytest.mark.parametrize("file", PAGES, ids=IDS)
def test_every_block_runs_or_says_what_it_lacks(file, page):
    for block in blocks_of(file):
        page.take(block)


@pytest.mark.parametrize("file", PAGES, ids=IDS)
def test_commands_in_the_text_exist(file):
    text = file.read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:\$ )?maskris ([a-z]+)[ `]", text))
    assert named <= set(commands())


def test_ci_runs_the_test_command_of_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(r"^(pip install -e .*? && pytest)", text, flags=re.MULTILINE)
    assert command is not None
    assert command[1] in (ROOT / ".ci/run").read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    return list(blocks_of(ROOT / "README.md", text))


def test_blocks_and_marks_are_found():
    text = "x\n<!-- needs: weights, gpu -->\n```sh\na\n```\n\n1. y\n\n   ~~~python\n   if x:\n       y\n   ~~~\n"
    text += "````\n```\n````\n"
    marked, inner, nested = blocks(text)
    assert (marked.language, marked.text, marked.needs, marked.line) == ("sh", "a\n", ("weights", "gpu"), 4)
    assert (inner.language, inner.text, inner.needs) == ("python", "if x:\n    y\n", ())
    assert (nested.language, nested.text, nested.where) == ("", "```\n", "README.md:14")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```sh\nmaskris recipes\n", "README.md:1: the block is never closed"),
        ("<!-- needs: luck -->\n```sh\n```\n", "README.md:1: no block can need luck"),
        ("<!-- needs: gpu -->\ntext\n", "README.md:2: a mark"),
        ("text\n\n    maskris recipes\n", "README.md:3: a command in an indented block"),
    ],
)
def test_a_page_that_can_not_be_tested_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        blocks(text)


def test_commands_are_read_as_a_shell_reads_them():
    text = "```console\n$ cd a && maskris predict \\\n  'the dog' # why\nanswer\n$ maskris recipes\n```\n"
    cd, predict, recipes = commands_of(blocks(text)[0])
    assert cd.words == ("cd", "a")
    assert (predict.words, predict.where) == (("maskris", "predict", "the dog"), "README.md:2")
    assert (recipes.words, recipes.where) == (("maskris", "recipes"), "README.md:5")


def test_redirected_commands_are_checked_but_not_run():
    marked = "<!-- needs: minutes -->\n```sh\nmaskris recipes x > mine.yaml\n```\n"
    assert next(commands_of(blocks(marked)[0])).words == ("maskris", "recipes", "x")
    with pytest.raises(ValueError, match=r"README\.md:2: > is not read here"):
        list(commands_of(blocks(marked.split("\n", 1)[1])[0]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```sh\npip install x\n```\n", "README.md:2: pip install x: this test can't run pip"),
        ("```sh\nmaskris recipes refcoco-maskri\n```\n", "did you mean refcoco-maskris"),
        ("```text\nmaskris recipes\n```\n", "in a block of text"),
        ("```\nmaskris recipes\n```\n", "no language"),
        ("<!-- needs: gpu -->\n```sh\nmaskris trian x\n```\n", "there is no such command"),
        ("<!-- needs: gpu -->\n```sh\nmaskris train shapes-maskris --data x --lr 3\n```\n", "not what `maskris train"),
        ("<!-- needs: gpu -->\n```sh\nmaskris train shapes-maskris --data x --training.lrr 3\n```\n", "training.lrr"),
        ("<!-- needs: gpu -->\n```sh\ntorchrun -m maskris train nothing --data x\n```\n", "no recipe 'nothing'"),
        ("<!-- needs: gpu -->\n```sh\nmaskris study shapes-maskris --vary training.lrr=1\n```\n", "training.lrr"),
        ("<!-- needs: gpu -->\n```sh\nmaskris study nothing\n```\n", "There is no study"),
        ("<!-- needs: minutes -->\n```sh\npython -m benchmarks --fast\n```\n", "exit code 2"),
    ],
)
def test_a_wrong_block_fails(page, text, message):
    with pytest.raises((AssertionError, pytest.fail.Exception), match=re.escape(message)):
        page.take(blocks(text)[0])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("```python\nraise LookupError\n```\n", LookupError),
        ("<!-- needs: gpu -->\n```python\nif\n```\n", SyntaxError),
        ("```yaml\nstrategy: {class_path: my_package.Nothing}\n```\n", ValueError),
        ("```json\n{\n```\n", ValueError),
    ],
)
def test_wrong_code_fails(page, text, error):
    with pytest.raises(error):
        page.take(blocks(text)[0])
