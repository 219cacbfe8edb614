"""CLIP (Radford et al., 2021) as CRIS and ETRIS use it."""
