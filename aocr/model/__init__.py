"""The network, without files and text: a sliding CNN, an LSTM encoder and an attention decoder.

The arrangement is that of Deng et al. 2017, "Image-to-Markup Generation with Coarse-to-Fine
Attention" (https://arxiv.org/abs/1609.04938), as the original aocr simplifies it:

| module | input | output |
|---|---|---|
| `cnn` | images `[batch, 32, width, channels]` | features `[batch, width/4, 512]` |
| `encoder` | features | memory `[batch, width/4, 2 * encoder units]` |
| `decoder` | memory, the previous character | logits `[batch, steps, vocab]`, attention |
| `beam_search` | memory, an automaton of accepted texts | the most probable of them, attention |

`network` joins them; `layers` and `rnn` hold their building blocks, `packing` puts several
images into a row of a training batch, and `loss` is what training minimizes.
"""

from aocr.model.beam_search import TransitionTable, unrestricted
from aocr.model.decoder import Decoded, Memory
from aocr.model.network import AttentionOCR

__all__ = ["AttentionOCR", "Decoded", "Memory", "TransitionTable", "unrestricted"]
