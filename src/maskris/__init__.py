"""Referring image segmentation: a photo and a phrase in, the mask of what the phrase means out.

The public names stand in ``__init__.pyi`` and are imported on first use, so that ``import maskris`` and the command
line start at once; so do those of the packages below. Everything that is not named there is private.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
