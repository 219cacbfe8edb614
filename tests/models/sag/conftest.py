"""Photos with colored rectangles, and their masks."""

from color_model import table  # noqa: F401 (a fixture)
