"""CRIS (Wang et al., CVPR 2022)."""
