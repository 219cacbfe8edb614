"""CLIP (Radford et al., 2021) as CRIS, ETRIS and TRIS use it."""
