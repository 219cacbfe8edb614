"""Evaluations as one HTML file for people: self-contained, readable offline and without JavaScript."""
