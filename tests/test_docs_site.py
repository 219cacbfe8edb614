"""What the site makes of the repository: docs/hooks.py, the navigation and the pages of the reference."""

import html
import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest
import yaml

import maskris
from maskris.cli.arguments import make_parser
from maskris.cli.main import commands

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
REFERENCE = {path: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md")}

_spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
hooks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hooks)


def pages(nav) -> set[str]:
    """Every page that a navigation names."""
    if isinstance(nav, str):
        return {nav}
    return set().union(*map(pages, nav.values() if isinstance(nav, dict) else nav))


def test_the_navigation_has_every_page_and_no_other():
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    made = {*hooks.COPIES, *map(hooks.page_of, hooks.SHOWN), hooks.COMMAND_LINE}
    assert pages(CONFIG["nav"]) | set(CONFIG["not_in_nav"].split()) == written | made


def test_nothing_of_the_site_comes_from_elsewhere():
    assert CONFIG["theme"]["font"] is False
    assert "offline" not in map(str, CONFIG["plugins"])  # it brings a script of another server
    assert "http" not in (ROOT / "docs/assets/site.css").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("index.md", "docs/data.md", "data.md"),
        ("index.md", "docs/images/overview.png", "images/overview.png"),
        ("index.md", "CONTRIBUTING.md", "contributing.md"),
        ("index.md", "CITATION.cff", "files/CITATION.md"),
        ("index.md", "docs/evaluation.md#claims", "evaluation.md#claims"),
        ("strategies.md", "../examples/own_strategy.py", "files/own_strategy.md"),
        ("reference/data.md", "../data.md", "../data.md"),
        ("reference/data.md", "../../README.md", "../index.md"),
        ("data.md", "https://arxiv.org/abs/2411.19067", "https://arxiv.org/abs/2411.19067"),
        ("data.md", "#here", "#here"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(page, link, expected):
    code = f"```sh\n[code]({link})\n```\n"
    assert hooks.relink(f"[a]({link})\n{code}", page) == f"[a]({expected})\n{code}"


def test_the_readme_is_the_first_page_with_all_of_its_links():
    text = hooks.relink((ROOT / "README.md").read_text(encoding="utf-8"), "index.md")
    assert "](docs/" not in text
    for link in re.findall(r"\]\(((?!http)[^)#]+)", text):
        assert link in {*hooks.COPIES, *map(hooks.page_of, hooks.SHOWN)} or (ROOT / "docs" / link).is_file()


def test_an_example_is_shown_whole_with_its_docstring_as_text():
    source = (ROOT / "examples/own_strategy.py").read_text(encoding="utf-8")
    page = hooks.listing("examples/own_strategy.py")
    about, code = page.split("```python\n")
    assert about.startswith("# examples/own_strategy.py\n\n")
    assert about.split("\n\n", 1)[1].rstrip() in source
    assert source.endswith(code.removesuffix("```\n"))
    assert code.startswith("import ")


def test_names_become_links_where_one_thing_has_that_name():
    anchors = {"maskris.a.Thing", "maskris.a.Thing.run", "maskris.b.Other.run", "maskris.a.masks"}
    link = '<autoref identifier="{}" optional><code>{}</code></autoref>'.format
    names = {"Thing": "Thing", "maskris.Thing": "Thing", "Thing.run": "Thing.run", "maskris.a.masks": "masks"}
    for name, anchor in names.items():
        assert hooks.link_names(f"<code>{name}</code>", anchors) == link(f"maskris.a.{anchor}", name)
    command = "<code>maskris train mine.yaml</code>"
    assert hooks.link_names(command, set()) == f'<autoref identifier="maskris-train" optional>{command}</autoref>'
    for text in ("<code>run</code>", "<code>masks</code>", "<code>Nothing</code>", "<code>a = Thing</code>"):
        assert hooks.link_names(text, anchors) == text
    for tag in ("a", "h2", "pre"):
        text = f'<{tag} id="x">\n<code>Thing</code></{tag}>'
        assert hooks.link_names(text, anchors) == text


def test_the_page_of_the_commands_has_every_option():
    text = hooks.command_line()
    sections = dict(re.findall(r"^## maskris (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(commands())
    for name, command in commands().items():
        assert f"| [`maskris {name}`](#maskris-{name}) | {command.about} |" in text
        function = command.function(name)
        rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", sections[name], re.MULTILINE)
        parser = make_parser(name, function)
        expected = [action for action in parser._actions if action.dest not in ("help", "recipe_keys")]
        assert len(rows) == len(expected)
        for action in expected:
            ((_, meaning),) = [row for row in rows if row[0].split()[0] in (action.option_strings or [action.dest])]
            assert html.escape(action.help.split()[-1].strip("`.")) in meaning
        assert ("keys-of-the-recipe" in sections[name]) == ("overrides" in inspect.signature(function).parameters)
    assert "`--training.first_step_full_rate {true,false}`" in text
    assert "runs/&lt;recipe&gt;" in text


def test_the_page_of_the_commands_does_not_depend_on_the_terminal(monkeypatch):
    page = hooks.command_line()
    monkeypatch.setenv("COLUMNS", "40")
    assert hooks.command_line() == page


def test_every_module_of_the_reference_exists():
    names = [name for text in REFERENCE.values() for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE)]
    assert len(names) > 40
    assert len(set(names)) == len(names)
    for name in names:
        importlib.import_module(name)


def test_the_public_names_stand_in_the_reference():
    linked = re.findall(r"\[`(\w+)`\]\[([\w.]+)\]", REFERENCE[ROOT / "docs/reference/maskris.md"])
    assert sorted(name for name, _ in linked) == sorted(maskris.__all__)
    modules = "\n".join(REFERENCE.values())
    for name, path in linked:
        home = getattr(maskris, name).__module__
        assert path == f"{home}.{name}"
        package = home.rpartition(".")[0]  # a page may show all modules of a package
        shown = rf"^::: ({re.escape(home)}|{re.escape(package)}\n    options:\n      show_submodules: true)$"
        assert re.search(shown, modules, re.MULTILINE)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_the_classes_and_functions_that_a_page_names_are_described(page):
    described = "\n".join(REFERENCE.values()) + "\n"
    for name in set(re.findall(r"`(maskris(?:\.\w+)+)[`(]", page.read_text(encoding="utf-8"))):
        parts = name.split(".")
        if parts[-1] in ("py", "yaml"):
            continue
        found, module = maskris, "maskris"
        for number, part in enumerate(parts[1:], start=2):
            if not hasattr(found, part):  # a module that nobody has imported
                importlib.import_module(".".join(parts[:number]))
            found = getattr(found, part)
            module = ".".join(parts[:number]) if inspect.ismodule(found) else module
        if module.count(".") > 1:  # more than a room
            homes = [module, module.rpartition(".")[0]]  # or the package that it is a part of
            assert any(f"::: {home}\n" in described for home in homes), f"{name} is missing in docs/reference"
