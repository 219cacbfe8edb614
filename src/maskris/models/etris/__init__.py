"""ETRIS (Xu et al., ICCV 2023)."""
