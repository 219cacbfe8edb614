"""Experiments: recipes, training by them, studies, published claims and their reproduction."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
