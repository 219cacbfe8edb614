"""Training methods: supervised learning, MaskRIS, and the masking they share."""
