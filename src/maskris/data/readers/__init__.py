"""Readers of annotations, one file for each format."""
