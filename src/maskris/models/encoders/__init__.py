"""Encoders of images and text from `transformers` and timm."""

from maskris.models.encoders.sources import Source, build_tokenizer
from maskris.models.encoders.text import TextEncoder
from maskris.models.encoders.vision import VisionEncoder

__all__ = ["Source", "TextEncoder", "VisionEncoder", "build_tokenizer"]
