"""Every program in examples/ runs as it stands. All take --steps, so that two will do here."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from strategies.toys import toy, toy_batch

from maskris.utils.rng import Random

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.stem for example in EXAMPLES])
def test_an_example_runs_in_an_empty_folder(example, tmp_path):
    done = subprocess.run(
        [sys.executable, str(example), "--steps", "2"],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "it says what came of it"
    assert len(example.read_text(encoding="utf-8").splitlines()) < 100


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.stem for example in EXAMPLES])
def test_an_example_needs_public_names_alone(example):
    nodes = ast.walk(ast.parse(example.read_text(encoding="utf-8")))
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name for name in modules if name.split(".")[0] == "maskris"} == {"maskris"}


def test_the_method_of_the_example_learns_only_where_the_teacher_is_sure():
    (path,) = (example for example in EXAMPLES if example.stem == "own_strategy")
    spec = importlib.util.spec_from_file_location("own_strategy", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = toy()
    for sure, learns in ((1.0, False), (0.0, True)):
        model.zero_grad()
        _, masked = module.Confident(sure).losses(model, toy_batch(), Random(0))
        masked.backward()
        assert (masked.item() > 0) == learns
        assert any(bool((p.grad != 0).any()) for p in model.parameters() if p.grad is not None) == learns
