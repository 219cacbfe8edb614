"""What supervises a training pass: ground truth, pseudo masks, boxes."""
