"""The data set of squares and a run on it."""

from squares import maskris, recipe, run, single_threaded, squares, table  # noqa: F401 (fixtures)
