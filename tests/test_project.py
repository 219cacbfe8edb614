"""The project's own files: what a release says of itself, and the workflows that make one."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(scope="module")
def metadata():
    return ProjectMetadata(str(ROOT), PluginManager())


def test_links_of_the_readme_work_on_an_index_page(metadata):
    """A page such as PyPI's shows the README alone: every link and picture needs its whole address."""
    text = metadata.core.readme
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 10
    assert [link for link in links if not link.startswith("https://")] == []
    source = metadata.core.urls["Source"].removeprefix("https://github.com/")
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text)
    assert pictures
    for picture in pictures:
        start = f"https://raw.githubusercontent.com/{source}/v{metadata.version}/"
        assert picture.startswith(start)
        assert (ROOT / picture.removeprefix(start)).is_file()
    files = [link for link in links if f"{source}/blob/" in link]
    for link in files:
        path = link.partition(f"/blob/v{metadata.version}/")[2].partition("#")[0]
        assert (ROOT / path).is_file(), link


def test_the_version_is_that_of_the_package(metadata):
    import maskris

    assert metadata.version == maskris.__version__


def test_every_floor_has_its_reason():
    lines = (ROOT / "pyproject.toml").read_text().partition("dependencies = [")[2].partition("]\n")[0].splitlines()
    floors = [line for line in lines if ">=" in line]
    assert len(floors) > 10
    assert [line for line in floors if "#" not in line] == []


def test_the_oldest_python_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    oldest = project["project"]["requires-python"].removeprefix(">=")
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(project["project"]["classifiers"]))
    assert versions[0] == oldest
    assert project["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert f'python: ["{oldest}", "{versions[-1]}"]' in (ROOT / ".github/workflows/tests.yml").read_text()


def test_workflows_are_those_of_githubs_schema():
    assert {path.stem for path in WORKFLOWS} == {"tests", "docs", "release"}
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    found = subprocess.run([*command, *map(str, WORKFLOWS)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_tests_run_what_ci_runs():
    assert "bash .ci/run" in (ROOT / ".github/workflows/tests.yml").read_text()
