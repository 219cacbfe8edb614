"""Robustness of models to occlusion, corruptions of the picture and worse sentences."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
