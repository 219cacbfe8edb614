"""TRIS (Liu et al., ICCV 2023), the network of its second stage."""

from maskris.models.tris.model import TRIS

__all__ = ["TRIS"]
