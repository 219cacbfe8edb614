"""Evaluation of any model on every expression of a table: protocols, metrics, results and their intervals."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
