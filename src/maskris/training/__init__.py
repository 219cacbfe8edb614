"""The training loop: optimiser, schedule, checkpoints and tracking."""
