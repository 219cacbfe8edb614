"""SaG, "Shatter and Gather" (Kim et al., ICCV 2023)."""

from maskris.models.sag.model import SaG

__all__ = ["SaG"]
