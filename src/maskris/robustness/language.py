"""How scores depend on the language of the expressions: length, relations, places, ordinals, kind."""

from maskris.evaluation.metrics import Scores
from maskris.evaluation.result import Evaluation
from maskris.robustness.text import count_relations, is_location, is_ordinal

_HOW_MANY = ("none", "one", "two or more")


def language_breakdown(evaluation: Evaluation) -> dict[str, dict[str, Scores]]:
    """The metrics of expressions that differ in language.

    Args:
        evaluation: On the original expressions.

    Returns:
        Scores by group: ``"length"`` in words; number of ``"relations"``; ``"location words"`` and ``"ordinals"``,
        with or without; ``"kind"`` where the data have kinds. No empty groups; the lists of words are in
        `maskris.robustness.text`.
    """
    expressions = evaluation.rows["expression"].to_pylist()
    labels = {
        "relations": [_HOW_MANY[min(count_relations(text), 2)] for text in expressions],
        "location words": ["with" if any(map(is_location, text.split())) else "without" for text in expressions],
        "ordinals": ["with" if any(map(is_ordinal, text.split())) else "without" for text in expressions],
    }
    order = (*_HOW_MANY, "with", "without")
    groups = {"length": evaluation.breakdown("length")}
    groups |= {by: {k: part.scores for k, part in evaluation.grouped(own, order).items()} for by, own in labels.items()}
    if len(kinds := evaluation.breakdown("kind")) > 1:
        groups["kind"] = kinds
    return groups
