"""The HTML report: which evaluations are shown, its sections and its page."""
