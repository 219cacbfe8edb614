"""The files of a model's folder, read so that an error says which file it is and what to do about it."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

_POINTER = b"version https://git-lfs"


def read_tensors(file: Path, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a safetensors file by name.

    Raises:
        ValueError: If the file is cut off, damaged or of another kind.
    """
    try:
        return load_file(file, device=device)
    except SafetensorError as error:
        raise ValueError(_what_is_wrong(file, "safetensors file", error)) from error


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        ValueError: If it is damaged, or something else than an object.
    """
    try:
        values = json.loads(file.read_bytes())
        if isinstance(values, dict):
            return values
        raise ValueError(f"it holds {str(values)[:40]}")
    except (ValueError, RecursionError) as error:
        raise ValueError(_what_is_wrong(file, "JSON object", error)) from error


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A tokenizer that `transformers` has saved.

    Raises:
        FileNotFoundError: If there is no such folder; without this, its path would be looked up on the Hub.
        ValueError: If there is no whole tokenizer in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder.parent} holds no whole model: there is no folder {folder.name} in it; copy or download it too"
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of several libraries, one of which raises nothing narrower
        pointers = [file for file in sorted(folder.iterdir()) if _is_pointer(file)]
        raise ValueError(_what_is_wrong((pointers or [folder])[0], "folder of a tokenizer", error)) from error
    return tokenizer


def _is_pointer(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(len(_POINTER)) == _POINTER


def _what_is_wrong(file: Path, kind: str, error: Exception) -> str:
    if _is_pointer(file):
        return f"{file} is a pointer of Git LFS and not yet the file itself; `git lfs pull` fetches it"
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return f"{file} is damaged or no {kind} ({reason}); copy or download it again"
