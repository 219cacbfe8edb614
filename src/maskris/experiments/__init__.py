"""Experiments: recipes, studies, published claims and their verification."""
