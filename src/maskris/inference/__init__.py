"""From a photo and phrases to masks and pictures."""
