"""What results look like: tables for the terminal, Markdown and CSV, plots, and the HTML report."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
