"""What a command may write to: never a file that it reads, and nothing of another kind than it writes."""

from collections.abc import Iterable
from pathlib import Path


def check_output(out: Path, inputs: Iterable[str | Path | None], ending: str) -> None:
    """Refuse an ``--out`` that would destroy something, before anything is computed.

    The ending protects the files in a folder that is read (photos, weights, annotations) without a look at each.

    Args:
        out: The file that is going to be written.
        inputs: What the command reads: files, folders, names of models on the Hub, or ``None`` for nothing.
        ending: What the name of such a file ends with, such as ``".parquet"``.

    Raises:
        ValueError: If the file has another ending, is a folder, or is one of the inputs (by whatever path).
    """
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; name a file, such as {out / f'result{ending}'}")
    if out.suffix.lower() != ending:
        raise ValueError(f"--out {out} must end in {ending}, such as {out.with_suffix(ending)}")
    for one in inputs:
        if one is not None and Path(one).exists() and out.exists() and out.samefile(one):
            raise ValueError(f"{out} is read and would be replaced by what is written; choose another --out")
