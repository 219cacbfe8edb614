"""The encoders that models are made of, and the sources they are built from."""

from maskris.models.sources import Source as Source
from maskris.models.sources import build_tokenizer as build_tokenizer
from maskris.models.text_encoder import TextEncoder as TextEncoder
from maskris.models.vision_encoder import VisionEncoder as VisionEncoder
