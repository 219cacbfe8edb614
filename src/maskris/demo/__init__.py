"""The demo: a page on which a model can be tried with photos and phrases (extra `demo`)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
