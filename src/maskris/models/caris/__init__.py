"""CARIS (Liu et al., ACM MM 2023), the network of MaskRIS."""

from maskris.models.caris.model import CARIS

__all__ = ["CARIS"]
