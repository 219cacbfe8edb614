"""How scores depend on the language of the expressions: length, relations, places, ordinals, kind."""

from dataclasses import replace

import pyarrow as pa

from maskris.evaluation.metrics import Scores
from maskris.evaluation.result import Evaluation
from maskris.robustness.text import count_relations, is_location, is_ordinal

_HOW_MANY = ("none", "one", "two or more")


def language_breakdown(evaluation: Evaluation) -> dict[str, dict[str, Scores]]:
    """The metrics of expressions that differ in language.

    Args:
        evaluation: With the expressions as people said them.

    Returns:
        Scores by group: ``"length"`` in words; number of ``"relations"``; ``"location words"`` and ``"ordinals"``,
        with or without; ``"kind"`` where the data tell it. No empty groups; the words are those of `lexicon`.
    """
    expressions = evaluation.rows["expression"].to_pylist()
    labels = {
        "relations": [_HOW_MANY[min(count_relations(text), 2)] for text in expressions],
        "location words": [_with(any(map(is_location, text.split()))) for text in expressions],
        "ordinals": [_with(any(map(is_ordinal, text.split()))) for text in expressions],
    }
    groups = {"length": evaluation.breakdown("length")}
    for by, names in labels.items():
        order = [name for name in (*_HOW_MANY, "with", "without") if name in names]
        groups[by] = {name: _part(evaluation, [own == name for own in names]).scores for name in order}
    if len(kinds := evaluation.breakdown("kind")) > 1:
        groups["kind"] = kinds
    return groups


def _with(there: bool) -> str:
    return "with" if there else "without"


def _part(evaluation: Evaluation, rows: list[bool]) -> Evaluation:
    return replace(evaluation, rows=evaluation.rows.filter(pa.array(rows)))
