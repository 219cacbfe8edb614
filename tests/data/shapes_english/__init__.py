"""A reader of the embedded data set's sentences; see `grammar`."""

from data.shapes_english import complex_clauses, groups, one_clause  # noqa: F401 - each registers its rules
from data.shapes_english.grammar import NotUnderstoodError, Reading, ahead, looks, named, read, singular

__all__ = ["NotUnderstoodError", "Reading", "ahead", "looks", "named", "read", "singular"]
