"""Annotations and photos of the published data sets: where they are, and how they get here whole."""
