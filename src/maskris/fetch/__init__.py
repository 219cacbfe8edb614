"""Annotations and photos of the published data sets: where they are, and how they get here whole.

The public names stand in ``__init__.pyi``; modules are private.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
