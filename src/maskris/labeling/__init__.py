"""Pseudo masks: from photos and phrases to masks that a model made and that others learn from."""
