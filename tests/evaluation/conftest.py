"""The model that sees colors and its photos."""

from color_model import color_model, model, table, toy_table  # noqa: F401 (fixtures)
