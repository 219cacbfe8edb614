"""ETRIS (Xu et al., ICCV 2023)."""

from maskris.models.etris.model import ETRIS

__all__ = ["ETRIS"]
