"""Chooses how to decode: greedily (`model/decoder.py`), or by a search (`model/beam_search.py`)."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from aocr.config import ModelConfig, shown
from aocr.errors import AocrError
from aocr.inference import lexicon, pattern
from aocr.inference.automaton import Automaton, acyclic, make_table
from aocr.inference.options import DecodingOptions
from aocr.model import AttentionOCR, Decoded, Memory, TransitionTable, unrestricted
from aocr.tokenizer import EOS_ID, Tokenizer


class Candidates(NamedTuple):
    """The most probable texts of each image.

    Attributes:
        ids: `[batch, candidates, S]` int32.
        probability: `[batch, candidates]` float64, falling; 0 if there are fewer texts.
    """

    ids: tf.Tensor
    probability: tf.Tensor


class DecodedBatch(NamedTuple):
    """Decoded ids and probabilities of a batch of images.

    Attributes:
        ids: `[batch, S]` int32: PAD, GO, EOS and, from 3 on, characters.
        probability: `[batch]`, product over all steps up to and including the first EOS.
        step_probabilities: `[batch, S]`, probability of each step; both float64 by default.
        attention: `[batch, S, time]` float32.
        until_eos: `[batch, S]` bool, whether a step is not after the first EOS.
        candidates: The most probable texts, if they were requested.
    """

    ids: tf.Tensor
    probability: tf.Tensor
    step_probabilities: tf.Tensor
    attention: tf.Tensor
    until_eos: tf.Tensor
    candidates: Candidates | None = None


class Decoding(Protocol):
    """A way to decode; `make_decoding` creates one."""

    def decode(self, model: AttentionOCR, memory: Memory, dtype: tf.DType) -> DecodedBatch:
        """Decodes encoded images.

        Args:
            model: The network.
            memory: The encoded images.
            dtype: Type of the probabilities.
        """

    def describe(self) -> dict[str, Any]:
        """Returns what `config.json` beside an export says about the decoding; empty if greedy."""


@dataclass(frozen=True)
class GreedyDecoding:
    """Decodes with the most probable id of each step as input of the next.

    Attributes:
        temperature: See `ModelConfig`.
    """

    temperature: float | tf.Tensor = 1.0

    def decode(self, model: AttentionOCR, memory: Memory, dtype: tf.DType) -> DecodedBatch:
        """See `Decoding`."""
        return score_greedy(model.greedy(memory), dtype, self.temperature)

    def describe(self) -> dict[str, Any]:
        """See `Decoding`."""
        return {}


@dataclass(frozen=True)
class SearchDecoding:
    """Decodes by a beam search in an automaton.

    Attributes:
        table: The automaton.
        options: Width of the beam and number of candidates.
        temperature: See `ModelConfig`.
        entries: Number of texts of the lexicon that can be returned; 0 without a lexicon.
    """

    table: TransitionTable
    options: DecodingOptions
    temperature: float = 1.0
    entries: int = 0

    def decode(self, model: AttentionOCR, memory: Memory, dtype: tf.DType) -> DecodedBatch:
        """See `Decoding`."""
        searched = model.search(memory, self.table, self.options.beam_width, self.temperature)
        log_probabilities = tf.cast(searched.log_probabilities, dtype)
        candidates = None
        if self.options.n_best is not None:
            ids = searched.ids[:, :self.options.n_best]
            candidates = Candidates(ids, tf.exp(tf.reduce_sum(
                log_probabilities[:, :self.options.n_best], -1)))
        return _decoded_batch(searched.ids[:, 0], log_probabilities[:, 0], searched.attention,
                             candidates)

    def describe(self) -> dict[str, Any]:
        """See `Decoding`."""
        entries = {"entries": self.entries} if self.entries else {}
        return {**asdict(self.options), "beam": self.options.beam_width, **entries}


def make_decoding(options: DecodingOptions, config: ModelConfig, tokenizer: Tokenizer) -> Decoding:
    """Returns the decoding that some options describe.

    Args:
        options: What a model may return.
        config: The model's settings: its alphabet, and the maximum length of its texts.
        tokenizer: Encodes the lexicon.

    Raises:
        AocrError: No text that the model can return is allowed, or the options are not supported.
    """
    if options.lexicon is not None:
        texts = _lexicon(options, options.lexicon, config, tokenizer)
        codes = sorted(tokenizer.encode(text)[:-1] for text in texts)
        return SearchDecoding(_table(acyclic(codes), options, config), options,
                              config.temperature, len(codes))
    if options.pattern is not None:
        automaton = pattern.to_automaton(options.pattern, config.alphabet, config.max_prediction)
        return SearchDecoding(_table(automaton, options, config), options, config.temperature)
    if options.beam_width > 1 or options.n_best is not None:
        return SearchDecoding(unrestricted(config.vocab_size), options, config.temperature)
    return GreedyDecoding(config.temperature)


def score_greedy(decoded: Decoded, dtype: tf.DType = tf.float64,
                 temperature: float | tf.Tensor = 1.0) -> DecodedBatch:
    """Computes the probabilities of greedily decoded ids."""
    values = _largest_log_probabilities(tf.cast(decoded.logits, dtype), temperature)
    return _decoded_batch(decoded.ids, values, decoded.attention)


def log_probabilities_at(decoded: Decoded, temperatures: np.ndarray) -> tf.Tensor:
    """Returns the log-probabilities of greedily decoded texts, `[temperatures, batch]` float64."""
    until_eos = _until_eos(decoded.ids)
    logits = tf.cast(decoded.logits, tf.float64)

    def at(temperature: tf.Tensor) -> tf.Tensor:
        values = _largest_log_probabilities(logits, temperature)
        return tf.reduce_sum(tf.where(until_eos, values, tf.zeros_like(values)), -1)

    return tf.map_fn(at, tf.constant(temperatures, tf.float64))


def _largest_log_probabilities(logits: tf.Tensor, temperature: float | tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(tf.nn.log_softmax(logits / temperature), -1)


def _until_eos(ids: tf.Tensor) -> tf.Tensor:
    return tf.cumsum(tf.cast(ids == EOS_ID, tf.int32), axis=1, exclusive=True) == 0


def _decoded_batch(ids: tf.Tensor, log_probabilities: tf.Tensor, attention: tf.Tensor,
                   candidates: Candidates | None = None) -> DecodedBatch:
    until_eos = _until_eos(ids)
    total = tf.reduce_sum(
        tf.where(until_eos, log_probabilities, tf.zeros_like(log_probabilities)), -1)
    return DecodedBatch(ids, tf.exp(total), tf.exp(log_probabilities), attention, until_eos,
                        candidates)


def _lexicon(options: DecodingOptions, path: str, config: ModelConfig, tokenizer: Tokenizer
             ) -> list[str]:
    """Returns the entries that the model can return, and that match the pattern if there is one."""
    texts = lexicon.read(path, tokenizer, config.max_prediction)
    if options.pattern is None:
        return texts
    pattern.check(options.pattern)
    matching = [text for text in texts if re.fullmatch(options.pattern, text)]
    if not matching:
        raise AocrError(f"none of the {len(texts)} entries of --lexicon {path} that the model can "
                        f"return matches --pattern {shown(options.pattern)}")
    return matching


def _table(automaton: Automaton, options: DecodingOptions, config: ModelConfig) -> TransitionTable:
    table = make_table(automaton, config.max_prediction)
    if table is None:
        raise AocrError(f"no text of at most {config.max_prediction} characters (--max-prediction) "
                        f"of the model's alphabet {shown(config.alphabet)} matches --pattern "
                        f"{shown(options.pattern)}")
    return table
