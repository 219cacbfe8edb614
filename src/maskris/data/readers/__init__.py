"""Readers of annotations, one file per format: a function ``read_…`` and its `Reader`, found by being in this package.

A reader of one's own needs no file here: it is named by a dotted path (``my_module.read``) or by `register_reader`.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from maskris.data.readers.validation import ReadResult
from maskris.registry import load_by_path

Detect = Callable[[Path, str | None, str | None], bool]


@dataclass(frozen=True)
class Reader:
    """A format of annotations and the function that reads it.

    Attributes:
        name: Short name, such as ``"coco"``.
        read: Called with the source, and by name with those of ``images``, ``dataset``, ``split_by``, ``text`` and
            ``incomplete`` that were given; each must then be one of its parameters. ``photos``, a folder for photos
            that the source itself holds, and ``progress`` are given to every reader that has these parameters.
        expects: What it reads in a few words, for messages, such as ``"a .jsonl file"``.
        source: Whether the source must be a file or a folder.
        detect: Whether a source (with ``dataset`` and ``split_by`` as given) has this format. Without it, the format is
            used only where it is named.
        several: Whether it can read several files as one source, and is then called with a list of them.
    """

    name: str
    read: Callable[..., ReadResult]
    expects: str = ""
    source: Literal["file", "folder", "any"] = "any"
    detect: Detect | None = None
    several: bool = False

    def takes(self, source: Path) -> bool:
        """Whether a source is a file or folder as it must be."""
        return self.source in ("any", "file" if source.is_file() else "folder")

    @property
    def options(self) -> set[str]:
        """Names of the options that `read` takes."""
        return set(inspect.signature(self.read).parameters)


_REGISTERED: dict[str, Reader] = {}


def known_readers() -> dict[str, Reader]:
    """The readers of this package and those that were registered, by name."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    own = {one.name: one for module in modules for one in vars(module).values() if isinstance(one, Reader)}
    return _REGISTERED | own


def register_reader(
    name: str, read: Callable[..., ReadResult], expects: str = "", detect: Detect | None = None
) -> None:
    """Give a reader a name, for ``format=…`` in this process; the arguments are those of `Reader`.

    Raises:
        ValueError: If the name is one of maskris' own, or has a dot.
    """
    if name == "auto" or "." in name or name in known_readers().keys() - _REGISTERED.keys():
        raise ValueError(f"A reader can't have the name {name!r}: it is taken, or has a dot as only paths have")
    _REGISTERED[name] = Reader(name, read, expects, detect=detect)


def find_reader(name: str) -> Reader:
    """The reader with a short name, or of a function (or `Reader`) with a dotted path, such as ``my_module.read``.

    Raises:
        ValueError: If there is none; names those that exist.
    """
    if "." in name:
        found = load_by_path(name)
        if not isinstance(found, Reader) and not callable(found):
            raise ValueError(f"{name} is no reader: the module has no such function")
        return found if isinstance(found, Reader) else Reader(name, found)
    readers = known_readers()
    if name not in readers:
        close = get_close_matches(name, readers, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(readers))}."
        raise ValueError(f"There is no format {name!r}; {hint} A reader of your own needs its module: my_module.read")
    return readers[name]


def _detect_reader(source: Path, dataset: str | None, split_by: str | None) -> Reader:
    """The one reader that suits a file or folder."""
    readers = [one for one in known_readers().values() if one.detect]
    fitting = [one for one in readers if one.takes(source) and one.detect and one.detect(source, dataset, split_by)]
    if len(fitting) == 1:
        return fitting[0]
    expected = "; ".join(f"{one.name}: {one.expects}" for one in fitting or readers)
    which = "several formats" if fitting else "no format"
    raise ValueError(f"{source} fits {which} ({expected}); choose with --format")


def read_annotations(
    source: str | Path | Sequence[str | Path],
    *,
    format: str = "auto",  # noqa: A002 - the name of the command's option
    dataset: str | None = None,
    split_by: str | None = None,
    images: str | Path | None = None,
    text: str = "sent",
    photos: str | Path | None = None,
    incomplete: bool = False,
    progress: bool = False,
) -> ReadResult:
    """Read rows and problems with the reader that is named, or else suits; `prepare_dataset` explains the arguments.

    Photos that the source itself holds are written to the folder ``photos``.

    Raises:
        FileNotFoundError: If the source is missing or incomplete.
        ValueError: If it isn't clear what to read, the format lacks an option, or a file is damaged or unsafe.
    """
    sources = [Path(source)] if isinstance(source, (str, Path)) else [Path(one) for one in source]
    if lost := [one for one in sources if not one.exists()]:
        raise FileNotFoundError(f"{lost[0]} does not exist")
    readers = [_detect_reader(one, dataset, split_by) if format == "auto" else find_reader(format) for one in sources]
    reader = readers[0]
    for one, its in zip(sources, readers, strict=True):
        if not its.takes(one):
            raise ValueError(f"The format {its.name} needs a {its.source} ({its.expects}), which {one} isn't")
        if len(sources) > 1 and (its.name != reader.name or not its.several):
            raise ValueError(f"{one} (format {its.name}) can't be read together with {sources[0]}; prepare each alone")
    options: dict[str, Any] = {"dataset": dataset, "split_by": split_by, "images": images}
    options |= {"text": None if text == "sent" else text, "incomplete": incomplete or None}
    given = {name: value for name, value in options.items() if value is not None}
    if unknown := sorted(given.keys() - reader.options):
        able = sorted(one.name for one in known_readers().values() if set(unknown) <= one.options)
        raise ValueError(
            f"{', '.join(unknown)} can't be chosen for the format {reader.name}, only for "
            f"{', '.join(able) or 'others'}; leave it out"
        )
    given |= {name: value for name, value in (("photos", photos), ("progress", progress)) if name in reader.options}
    return reader.read(sources if len(sources) > 1 else sources[0], **given)
