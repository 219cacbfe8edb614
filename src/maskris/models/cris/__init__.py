"""CRIS (Wang et al., CVPR 2022)."""

from maskris.models.cris.model import CRIS

__all__ = ["CRIS"]
