"""Training methods: supervised learning, MaskRIS and its variants, and the masking that they share."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
