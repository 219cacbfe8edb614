"""The blocks of code in the README and the docs, and the command lines in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

NEEDS = {
    "gpu": "a GPU, or hours",
    "minutes": "more time than a test may take",
    "network": "packages or files from the internet",
    "refcoco": "annotations and photos that can't be redistributed",
    "server": "a service that runs in another terminal",
    "software": "programs beside Python",
    "weights": "published weights",
}
"""What a block may lack to be run: ``<!-- needs: weights, gpu -->`` on the line before it, which no reader sees."""

SHELL = ("sh", "console")
_FENCE = re.compile(r"( *)(`{3,}|~{3,})\s*(\S*)[^`]*$")
_MARK = re.compile(r"\s*<!-- needs: ([\w, -]+) -->\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        file: Where it stands.
        line: Of its first line of code, from 1.
        language: Its first word, such as ``python``; empty if there is none.
        text: The code, without the indentation of the fence.
        needs: What it lacks to be run; empty for blocks that are run.
    """

    file: Path
    line: int
    language: str
    text: str
    needs: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a shell block, after comments, line continuations and ``&&`` are resolved."""

    where: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.where}: {shlex.join(self.words)}"


def blocks_of(file: Path, text: str | None = None) -> Iterator[Block]:
    """Every fenced block of a Markdown file.

    Args:
        file: Its name.
        text: Its content, if not that of the file.

    Raises:
        ValueError: If a fence is not closed, a mark is unknown or marks nothing, or a command hides in an indented
            block, which has no language.
    """
    lines = (file.read_text(encoding="utf-8") if text is None else text).splitlines()
    open_fence, start, mark = None, 0, ()
    for number, line in enumerate(lines, start=1):
        where = f"{file.name}:{number}"
        if open_fence is not None:
            if line.strip() == open_fence[2]:
                code = [one.removeprefix(open_fence[1]) for one in lines[start : number - 1]]
                yield Block(file, start + 1, open_fence[3], "\n".join(code) + "\n", mark)
                open_fence, mark = None, ()
        elif fence := _FENCE.match(line):
            open_fence, start = fence, number
        elif found := _MARK.match(line):
            mark = tuple(word.strip() for word in found[1].split(","))
            if unknown := [word for word in mark if word not in NEEDS]:
                raise ValueError(f"{where}: no block can need {', '.join(unknown)}; known: {', '.join(NEEDS)}")
        elif mark:
            raise ValueError(f"{where}: a mark <!-- needs: … --> stands on the line before its block")
        elif re.match(r"( {4,}|\t)(\$ )?(maskris|pip|python) ", line):
            raise ValueError(f"{where}: a command in an indented block; give it a fence ```sh, so that it is tested")
    if open_fence is not None:
        raise ValueError(f"{file.name}:{start}: the block is never closed")


def commands_of(block: Block) -> Iterator[Command]:
    """The commands of a shell block; of ``console``, the lines after a ``$``.

    Raises:
        ValueError: If a command uses what we don't read: pipes, variables, redirections.
    """
    lines = block.text.replace("\\\n", " \x00").split("\n")
    number = block.line
    for line in lines:
        where = f"{block.file.relative_to(ROOT)}:{number}"
        number += 1 + line.count("\x00")
        line = line.replace("\x00", "").strip()
        if block.language == "console":
            if not line.startswith("$ "):
                continue
            line = line[2:]
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, "&&"]:
            if word in ("&&", ";"):
                if words:
                    yield Command(where, tuple(words))
                words = []
            elif re.fullmatch(r"[();<>|&]+", word) and not block.needs:
                raise ValueError(f"{where}: {word} is not read here; write it simpler, or mark the block")
            elif word in ("|", ">", ">>", "&"):
                yield Command(where, tuple(words))
                words = [] if word == "|" else [":"]  # the name of a file is no command
            else:
                words.append(word)
