"""Referring segmentation models and the conversion of published weights."""
