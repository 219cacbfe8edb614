"""Tables without masks, and a teacher whose answers are known."""

from color_model import color_model, model, toy_table  # noqa: F401 (fixtures)
