"""Imports run one way, and `import maskris` stays cheap. The rules are those of docs/architecture.md."""

import ast
import importlib
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
SOURCE = PROJECT / "src" / "maskris"
FILES = sorted(SOURCE.rglob("*.py"))

# From the top: a package may import those of later lines, never one beside or above it.
LAYERS = (
    ("__main__",),
    ("demo",),
    ("cli",),
    ("reporting",),
    ("experiments", "labeling"),
    ("robustness", "training"),
    ("evaluation", "inference", "strategies"),
    ("models", "fetch"),
    ("data",),
    ("registry",),
    ("utils", "batch"),
    ("recipes",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# Modules that start fast: importing them must not import these packages.
HEAVY = ("torch", "transformers", "pyarrow", "accelerate", "torchvision", "PIL", "matplotlib")
LIGHT = ["maskris", "maskris.utils.rng", "maskris.training.config", "maskris.cli", "maskris.cli.main"]

# Extras of pyproject.toml and their parts: imported only inside functions, which can say what to install.
OPTIONAL = {
    "timm",
    "skimage",
    "tensorboard",
    "gradio",
    "fastapi",
    "uvicorn",
    "onnx",
    "onnxruntime",
    "ray",
    "matplotlib",
    "psutil",
}
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml"}


def name_of(path):
    """``maskris.data.table`` of its file."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in FILES}


def imports_of(source, module, is_package=False):
    """Every ``(imported module, whether already when the file itself is imported)`` in a file."""
    tree = ast.parse(source)
    run_time = set()  # nodes that run when the module is imported

    def visit(node):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return
        run_time.add(node)
        types_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in node.orelse if types_only else ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                package = parts[: len(parts) - node.level + is_package]
                base = ".".join([*package, *([node.module] if node.module else [])])
            inside = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else base for name in inside]
        else:
            continue
        for name in names:
            yield name, node in run_time


IMPORTS = {
    name_of(path): sorted(set(imports_of(path.read_text(), name_of(path), path.name == "__init__.py")))
    for path in FILES
}


def package_of(module):
    return module.split(".")[1] if "." in module else ""


def may_import(module, imported):
    """Whether the table allows it; imports in functions and for types couple two packages as much as others do."""
    package, other = package_of(module), package_of(imported)
    if not package:  # the package's own file offers the public names of all packages
        return True
    return package == other or (other in RANK and RANK[other] > RANK[package])


@pytest.mark.parametrize("module", sorted(IMPORTS))
def test_imports_run_one_way(module):
    wrong = [name for name, _ in IMPORTS[module] if name.split(".")[0] == "maskris" and not may_import(module, name)]
    assert not wrong, f"{module} must not import {', '.join(wrong)}: see the table of docs/architecture.md"


def test_every_package_is_in_the_table():
    assert {package_of(module) for module in MODULES} - {""} == set(RANK)


@pytest.mark.parametrize(
    ("module", "imported", "allowed"),
    [
        ("maskris.models.caris.model", "maskris.data.preprocess", True),
        ("maskris.data.dataset", "maskris.models.base", False),
        ("maskris.strategies.maskris", "maskris.models.base", True),
        ("maskris.strategies.maskris", "maskris.evaluation.evaluator", False),
        ("maskris.training.trainer", "maskris.strategies.base", True),
        ("maskris.training.trainer", "maskris.cli.main", False),
        ("maskris.training.trainer", "maskris.robustness.suite", False),
        ("maskris.evaluation.evaluator", "maskris.training.trainer", False),
        ("maskris.evaluation.result", "maskris.reporting.tables", False),
        ("maskris.data.dataset", "maskris", False),
        ("maskris.utils.rng", "maskris.batch", False),
        ("maskris.cli.main", "maskris.training.trainer", True),
        ("maskris.cli.main", "maskris.demo.app", False),
        ("maskris", "maskris.training.trainer", True),
    ],
)
def test_the_table_is_that_of_the_design(module, imported, allowed):
    assert may_import(module, imported) is allowed


# The trainer, the evaluation and the masking know no concrete network or method, although the table would allow it.
ABSTRACT = ("training", "evaluation", "strategies", "inference", "robustness")
CONTRACTS = ("maskris.models.base", "maskris.models.folder", "maskris.models.loading", "maskris.strategies.base")
# What judges and never learns is no network that a method trains.
CONTRACTS += ("maskris.models.clip.scorer", "maskris.models.encoders.sources")
CONTRACTS += ("maskris.models.pairs",)  # between networks with slots and what trains them


@pytest.mark.parametrize("module", sorted(name for name in IMPORTS if package_of(name) in ABSTRACT))
def test_concrete_models_and_methods_are_unknown_to_what_works_with_all_of_them(module):
    concrete = [
        name
        for name, _ in IMPORTS[module]
        if name.startswith(("maskris.models.", "maskris.strategies."))
        and name not in CONTRACTS
        and package_of(name) != package_of(module)
    ]
    assert not concrete, f"{module} knows {', '.join(concrete)}"


def test_imports_are_found_wherever_they_stand():
    source = """
import torch
from maskris.data import table
from typing import TYPE_CHECKING
from ..models import base as b
from maskris import __version__
if TYPE_CHECKING:
    from maskris.data.table import ReferringTable
else:
    import math
try:
    import yaml
except ImportError:
    pass
def f():
    import timm
"""
    found = set(imports_of(source, "maskris.strategies.new"))
    assert found == {
        ("torch", True),
        ("maskris", True),
        ("maskris.data.table", True),
        ("typing", True),
        ("maskris.models.base", True),
        ("maskris.data.table", False),
        ("math", True),
        ("yaml", True),
        ("timm", False),
    }


def test_no_module_needs_itself():
    """No circle of imports, those in functions and for types counted; the package's own file names all the others."""
    graph = {
        module: {name for name, _ in names if name in MODULES} - {module}
        for module, names in IMPORTS.items()
        if module != "maskris"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"These modules import each other: {' -> '.join(error.args[1])}")


def core_dependencies():
    # Python 3.10 has no tomllib; the list is simple enough.
    text = (PROJECT / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE).group(1)
    return {name.lower().replace("-", "_") for name in re.findall(r'^\s*"([A-Za-z0-9_.-]+)', block, re.MULTILINE)}


@pytest.mark.parametrize("module", sorted(IMPORTS))
def test_every_package_is_declared_and_extras_are_imported_late(module):
    core = core_dependencies()
    assert {"torch", "pyyaml", "huggingface_hub"} <= core
    for name, run_time in IMPORTS[module]:
        package = name.split(".")[0]
        if package == "maskris" or package in sys.stdlib_module_names:
            continue
        if DISTRIBUTIONS.get(package, package).lower() in core:
            continue
        assert package in OPTIONAL, f"{module} imports {package}, which pyproject.toml does not declare"
        assert not run_time, f"{module} imports the extra {package} at its top: import it in the function that needs it"


@pytest.mark.parametrize("module", [name for name in LIGHT if name in MODULES])
def test_light_modules_start_fast(module):
    code = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not loaded, f"import {module} loads {', '.join(loaded)}"


@pytest.mark.parametrize("path", FILES, ids=[name_of(path) for path in FILES])
def test_a_module_and_what_it_defines_never_share_a_name(path):
    """Or one of them hides the other; a command is a file with a function of its name, called by the command line."""
    tree = ast.parse(path.read_text())
    names = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert path.stem not in names or path.parent.name == "cli"


PUBLIC = sorted(path.parent for path in SOURCE.rglob("__init__.pyi"))


@pytest.mark.parametrize("folder", PUBLIC, ids=[path.name for path in PUBLIC])
def test_public_names_are_defined_where_the_stub_says(folder):
    """Each name is one that its module defines itself, and can be had from the package."""
    package = importlib.import_module(name_of(folder / "__init__.py"))
    names = set()
    for node in ast.parse((folder / "__init__.pyi").read_text()).body:
        if not isinstance(node, ast.ImportFrom):
            continue
        for alias in node.names:
            names.add(alias.name)
            found = getattr(package, alias.name)
            home = getattr(found, "__module__", None)
            where = f"{package.__name__}.{node.module}"
            assert home is None or home == where or home.startswith(f"{where}."), f"{alias.name} is defined in {home}"
    assert set(package.__all__) == names
    with pytest.raises(AttributeError, match="Nothing"):
        package.Nothing  # noqa: B018
