"""The network: `layers`, `cnn`, `encoder`, `decoder`, and `network`, which joins them."""

from aocr.model.decoder import Decoded, Memory
from aocr.model.network import AttentionOCR

__all__ = ["AttentionOCR", "Decoded", "Memory"]
