"""The command line; thin, with heavy imports inside functions."""
