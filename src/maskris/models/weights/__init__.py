"""Published weights: reading them safely, and converting them to the models of this package."""
