"""Hooks of the documentation site: what stands elsewhere in the repository becomes a page, and is written only once."""

import ast
import html
import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COPIES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Page of the site -> Markdown file of the repository."""

SHOWN = (*(f"examples/{path.name}" for path in sorted((ROOT / "examples").glob("*.py"))), "results/claims.yaml",
         "CITATION.cff")  # fmt: skip
"""Other files of the repository that pages link to; each becomes a page that shows it."""

COMMAND_LINE = "reference/command-line.md"
_LINK = re.compile(r"(?<=\]\()(?!https?:)([^)#\s]+)(?=[)#])")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(<(a|h\d|pre|autoref)\b.*?</\2>)|<code>(?:([\w.]+)|maskris ([a-z]+)\b[^<]*)</code>", re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that have no file in ``docs``."""
    from mkdocs.structure.files import File

    pages = {page: (ROOT / file).read_text(encoding="utf-8") for page, file in COPIES.items()}
    pages |= {page_of(file): listing(file) for file in SHOWN}
    pages[COMMAND_LINE] = command_line()
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links that are right in the repository, made right for the site."""
    return relink(markdown, page.file.src_uri)


def on_env(env: Any, config: Any, files: Any) -> Any:
    """Names in code style become links to the reference, where exactly one thing there has that name."""
    pages = [file.page for file in files.documentation_pages() if file.page is not None]
    anchors = {name for page in pages for name in re.findall(r'<h\d id="(maskris\.[\w.]+)"', page.content or "")}
    for page in pages:
        if page.content:
            page.content = link_names(page.content, anchors)
    return env


on_env.mkdocs_priority = 50  # type: ignore[attr-defined]  # before autorefs turns references into links


def page_of(file: str) -> str:
    """The page that shows a file of the repository."""
    return f"files/{Path(file).stem}.md"


def listing(file: str) -> str:
    """A page with the file on it; what a module says of itself stands above its code."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if not file.endswith(".py"):
        return f"---\nsearch: {{exclude: true}}\n---\n\n# {file}\n\n```yaml\n{text.rstrip()}\n```\n"
    tree = ast.parse(text)
    code = "".join(text.splitlines(keepends=True)[tree.body[0].end_lineno :]).strip("\n")
    return f"# {file}\n\n{ast.get_docstring(tree)}\n\n```python\n{code}\n```\n"


def relink(markdown: str, page: str) -> str:
    """Relative links of a page as the site needs them.

    Args:
        markdown: What stands in the repository.
        page: Where it stands in the site.
    """
    source = COPIES.get(page, f"docs/{page}")
    pages = {file: page for page, file in COPIES.items()} | {file: page_of(file) for file in SHOWN}

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        target = pages.get(target, target.removeprefix("docs/") if target.startswith("docs/") else "")
        return posixpath.relpath(target, posixpath.dirname(page) or ".") if target else match[1]

    parts = _FENCE.split(markdown)
    blocks = [*_FENCE.findall(markdown), ""]
    return "".join(_LINK.sub(moved, part) + block for part, block in zip(parts, blocks, strict=True))


def link_names(content: str, anchors: set[str]) -> str:
    """``<code>CARIS</code>`` and ``<code>maskris.CARIS</code>`` as references to the one anchor with that name.

    ``<code>maskris train …</code>`` leads to the page of the commands.

    Args:
        content: HTML of a page; headings, links and blocks of code in it stay as they are.
        anchors: Full names of everything that is described somewhere.
    """
    by_name: dict[str, set[str]] = {}
    for anchor in anchors:
        parts = anchor.split(".")
        for name in {anchor, parts[-1], ".".join(parts[-2:]), f"maskris.{parts[-1]}"}:
            by_name.setdefault(name, set()).add(anchor)

    def linked(match: re.Match[str]) -> str:
        if match[4]:
            return f'<autoref identifier="maskris-{match[4]}" optional>{match[0]}</autoref>'
        found = by_name.get(match[3] or "", set())
        # Lower-case names alone are mostly arguments and words: `masks`, `text`.
        if match[1] or len(found) != 1 or ("." not in match[3] and match[3].islower()):
            return match[0]
        return f'<autoref identifier="{next(iter(found))}" optional>{match[0]}</autoref>'

    return _CODE.sub(linked, content)


def command_line() -> str:
    """The page of the commands, from the very parsers that read them."""
    from maskris.cli.arguments import make_parser
    from maskris.cli.main import commands

    lines = ["# Command line", "", "What `--help` says, made from the commands themselves.", ""]
    lines += ["| command | what it does |", "|---|---|"]
    lines += [f"| [`maskris {name}`](#maskris-{name}) | {about} |" for name, (_, about) in commands().items()]
    keys: list[str] = []
    for name, command in commands().items():
        function = command.function(name)
        with _columns(88):
            parser = make_parser(name, function, recipe_keys=True)
            usage = parser.format_usage().removeprefix("usage: ").rstrip().replace("\n       ", "\n")
        with _columns(10_000):  # no line is wrapped
            own, of_recipe = _read_help(parser.format_help())
        lines += ["", f"## maskris {name}", "", own[0], "", "```text", usage, "```", *own[1:]]
        if of_recipe:
            lines += ["", "It also takes the [keys of the recipe](#keys-of-the-recipe)."]
            keys = of_recipe
    return "\n".join([*lines, "", "## Keys of the recipe", *keys]) + "\n"


@contextmanager
def _columns(width: int) -> Iterator[None]:
    """Help in lines of this width, whatever the terminal's."""
    before, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), str(width)
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _read_help(text: str) -> tuple[list[str], list[str]]:
    """Help whose lines never wrap, as Markdown: what a command says of itself, and the keys of the recipe."""
    _, description, *groups = re.split(r"\n\n(?=\S)", text.rstrip())
    own, keys = [_prose(description), *_TABLE], list[str]()
    for group in groups:
        title, *lines = group.splitlines()
        rows = [
            f"| `{names}` | {_prose(about)} |"
            for names, about in re.findall(r"^  (\S.*?)(?:\n? {2,}(\S.*))$", "\n".join(lines), re.MULTILINE)
            if names != "-h, --help"
        ]
        if not title.startswith("keys of the recipe"):
            own += rows
        else:
            keys += [*_TABLE, *rows] if rows else ["", *map(_prose, lines)]
    return (own if len(own) > 1 + len(_TABLE) else own[:1]), keys


_TABLE = ("", "| argument | meaning |", "|---|---|")


def _prose(text: str) -> str:
    """Help as Markdown: options are code, and `<recipe>` is no HTML."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _marked(part) for part in parts)


def _marked(text: str) -> str:
    return re.sub(r"(?<![\w-])(--[\w.-]*\w)", r"`\1`", html.escape(text, quote=False)).replace("|", "\\|")
