"""Safe reading of downloaded pickles: lists, dicts, tuples, strings, bytes, numbers, bools and None only.

A pickle is a program: it may import and call anything. RefCOCO's ``refs(*).p`` need none of that. A pickle that looks
up a name is refused with that name before anything happens, and without a name nothing can be called.
"""

import codecs
import copyreg
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

_PLAIN = (list, dict, tuple, str, bytes, int, float, bool, type(None))


class UnsafePickleError(ValueError):
    """A pickle holds more than lists, dicts, strings and numbers; nothing of it was executed."""


def load_plain(path: str | Path) -> Any:
    """Load a pickle of plain values.

    Strings of Python 2 become `str`: as UTF-8, and bytes that are none as Latin-1.

    Args:
        path: The file, of any protocol.

    Raises:
        UnsafePickleError: If it holds anything else; the message names what.
        ValueError: If it is damaged or no pickle.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            _refuse_extensions(path)
            value = _PlainUnpickler(file, encoding="utf-8", errors=_FALLBACK).load()
            _check_types(value)
        except UnsafePickleError as error:
            raise UnsafePickleError(f"{path}: refused, because {error}") from None
        # Damaged bytes make the unpickler raise nearly anything, MemoryError for an absurd length included.
        except Exception as error:
            raise ValueError(f"{path} is damaged or no pickle: {type(error).__name__}: {error}") from error
    return value


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise UnsafePickleError(
            f"it asks for {module}.{name}, which may execute code: only lists, dicts, strings and numbers are read. "
            "If you trust the file, load it where it was made and write it again from plain values"
        )

    def persistent_load(self, pid: object) -> NoReturn:
        raise UnsafePickleError(f"it asks for the persistent object {pid!r}, which only its writer knows")


def _refuse_extensions(path: Path) -> None:
    """Refuse registered extensions, which `copyreg` may resolve from a cache without asking `find_class`."""
    if not any(getattr(copyreg, name, None) for name in ("_inverted_registry", "_extension_cache")):
        return  # none are registered: the unpickler itself refuses them, and the slow search can be left out
    with path.open("rb") as file:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name.startswith("EXT"):
                raise UnsafePickleError(f"it asks for the registered extension {argument}, which may be anything")


def _check_types(value: Any) -> None:
    """Refuse sets and byte arrays, which pickles build without a name. Cycles and shared parts are visited once."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if type(part) not in _PLAIN:
            kind = type(part).__name__
            raise UnsafePickleError(f"it holds a {kind}: only lists, dicts, strings and numbers are read")
        if isinstance(part, (list, dict, tuple)) and id(part) not in seen:
            seen.add(id(part))
            waiting += [*part, *part.values()] if isinstance(part, dict) else part


def _latin1(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


_FALLBACK = "maskris.latin1"
codecs.register_error(_FALLBACK, _latin1)
