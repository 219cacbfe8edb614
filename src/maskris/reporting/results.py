"""Any result of this package as tables, as Markdown and as CSV."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from maskris.reporting.tables import Table

# By name and not by class: a command that prepares data imports neither PyTorch nor what other results need.
_MODULES = {
    "Scores": "scores",
    "Evaluation": "scores",
    "PrepareReport": "data",
    "CombinedReport": "data",
    "Robustness": "robustness",
    "RobustnessComparison": "robustness",
    "StudyResults": "study",
    "Finding": "claims",
    "Claim": "claims",
}


def tables_of(result: Any, **options: Any) -> list[Table]:
    """The tables of a result, in the order in which a terminal shows them.

    Args:
        result: Scores, an evaluation, a report of prepared data, robustness, a study, a list of claims or of findings;
            a table is its own table.
        **options: What the result's tables leave open: ``by`` for the breakdowns of an evaluation, ``metric`` for
            robustness and studies.

    Raises:
        TypeError: If it is none of these.
    """
    tables: list[Table] = [result] if isinstance(result, Table) else _module(result).tables(result, **options)
    return tables


def to_markdown(result: Any, **options: Any) -> str:
    """A result as a page or a section of Markdown.

    Args:
        result: As for `tables_of`.
        **options: As for `tables_of`; also ``pictures`` of robustness and ``plot`` of a study.

    Raises:
        TypeError: If it is none of these.
    """
    module = None if isinstance(result, Table) else _module(result)
    if module is not None and hasattr(module, "markdown"):
        return str(module.markdown(result, **options))
    parts = []
    for table in tables_of(result, **options):
        parts += [f"### {table.title}" if table.title else "", table.to_markdown(), table.caption]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_csv(result: Any, path: str | Path) -> Path:
    """Write numbers of a result as one CSV file.

    Args:
        result: As for `tables_of`. Of robustness and studies every run is written, as fractions; of others the first
            table.
        path: The file; it is replaced.
    """
    table = tables_of(result)[0]
    if not isinstance(result, Table) and hasattr(module := _module(result), "runs_table"):
        table = module.runs_table(result)
    path = Path(path)
    path.write_text(table.to_csv(), encoding="utf-8", newline="")
    return path


def _module(result: Any) -> Any:
    one = result[0] if isinstance(result, Sequence) and result else result
    for cls in type(one).__mro__:
        if cls.__name__ in _MODULES:
            return import_module(f"maskris.reporting.{_MODULES[cls.__name__]}")
    raise TypeError(f"There are no tables of {type(one).__name__}, but of {', '.join(_MODULES)}")
