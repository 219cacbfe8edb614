"""CARIS (Liu et al., ACM MM 2023), the network of MaskRIS."""
