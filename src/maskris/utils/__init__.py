"""Files, processes, progress, randomness and text: helpers that have nothing to do with segmentation."""
