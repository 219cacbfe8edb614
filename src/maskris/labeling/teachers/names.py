"""Teachers by their names."""

from typing import Any

from maskris.labeling.teachers.base import Teacher
from maskris.labeling.teachers.ris_model import RISModelTeacher
from maskris.registry import load_by_path

TEACHERS: dict[str, str] = {}
"""Name to dotted path of a class whose constructor takes an optional source of weights by place, and ``device`` and
``batch_size`` by name."""


def find_teacher(name: str, *, device: str | None = None, batch_size: int = 32) -> Teacher:
    """The teacher that a name stands for.

    Args:
        name: One of `TEACHERS`, with other weights than its own after a colon (``clipseg:my/folder``), or a model of
            this package: a folder, a run folder, a released name or a Hub id.
        device: The fastest by default.
        batch_size: Most expressions at once.

    Raises:
        FileNotFoundError: If it is none of these.
        ValueError: If its weights can't be used.
        ImportError: If it needs an extra that is missing.
    """
    kind, _, source = name.partition(":")
    if kind not in TEACHERS:
        try:
            return RISModelTeacher(name, device=device, batch_size=batch_size)
        except FileNotFoundError as error:
            others = f"; other teachers are {', '.join(TEACHERS)}" if TEACHERS else ""
            raise FileNotFoundError(f"{error}{others}") from error
    options: dict[str, Any] = {"device": device, "batch_size": batch_size}
    found: Teacher = load_by_path(TEACHERS[kind])(*([source] if source else []), **options)
    return found
