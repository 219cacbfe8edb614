"""Published implementations: their parameter names as ours, and their configurations read off their weights."""
