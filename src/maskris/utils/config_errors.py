"""Short error messages of recipes and command lines, made of jsonargparse's, which list every type that was tried."""

import inspect
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pkgutil import resolve_name

_NOISE = (
    "Parser key",
    "Does not validate",
    "Subtypes:",
    "Errors:",
    "Given value",
    "Problem with given class_path",
    "Expected a <class 'NoneType'>",
    "Expected a path but",
    "Subclass types expect",
    "a class path (str)",
    "a dict with",
)


def simplify(message: str, known: Iterable[str] = ()) -> str:
    """A message of jsonargparse in one or two lines: the key, what is wrong with it, and what may have been meant.

    `known` are the keys that exist, as far as they aren't arguments of a class that the message names.
    """
    keys = re.findall(r'Parser key "(.+?)":', message)
    if unknown := _unknown(message):
        return _about_unknown(".".join([*keys, unknown]), _siblings(message) or list(known))
    lines = [line.strip().removeprefix("- ").strip() for line in message.splitlines()]
    text = " ".join(line for line in lines if line and not line.startswith(_NOISE))
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)  # <class 'int'>
    text = re.sub(r"typing\.Literal\[(.+?)\]", r"one of \1", text)
    text = text.replace("Expected a one of", "expected one of").replace("Expected a ", "expected ")
    text = text.replace(". Got value: ", ", not ")
    text = re.sub(r"^Not a valid subclass of (\w+)", r"expected a class_path of a \1, with its init_args", text)
    text = re.sub(r"^Import path does not correspond to a subclass of (\w+)", r"this class is no \1", text)
    value = re.findall(r"Given value: (.+)", message)
    if text.startswith("expected") and ", not " not in text and value:
        # An override of a nested key carries its value inside.
        nested = re.fullmatch(r"NestedArg\(key='.+?', val=(.+)\)", value[0])
        text += f", not {nested[1] if nested else value[0]}"
    return f"{'.'.join(keys)}: {text}" if keys else text


def _unknown(message: str) -> str | None:
    if match := re.search(r"Group '(.+?)' does not accept option '(.+?)'", message):
        return f"{match[1]}.{match[2]}"
    match = re.search(r"Option '(.+?)' is not accepted|unrecognized arguments: --([^\s=]+)", message)
    return (match[1] or match[2]) if match else None


def _siblings(message: str) -> list[str]:
    """The arguments of the innermost class that the message names."""
    paths = re.findall(r"Problem with given class_path '(.+?)'", message)
    return list(inspect.signature(resolve_name(paths[-1])).parameters) if paths else []


def _about_unknown(key: str, known: list[str]) -> str:
    prefix, _, last = key.rpartition(".")
    qualified = any("." in name for name in known)
    sections = sorted({name.split(".")[0] for name in known})
    if qualified and (section := key.split(".")[0]) not in sections:
        return _about_unknown(section, sections)
    if close := get_close_matches(key if qualified else last, known, n=1, cutoff=0.6):
        meant = close[0] if qualified or not prefix else f"{prefix}.{close[0]}"
        return f"unknown key {key}; did you mean {meant}?"
    return f"unknown key {key}" + (f"; known are {', '.join(known)}" if known and not qualified else "")
