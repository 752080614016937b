"""Finite automata over the ids of characters, and their transition tables."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from aocr.errors import AocrError
from aocr.model.beam_search import FINAL_STATE, START_STATE, TransitionTable
from aocr.tokenizer import EOS_ID

MAX_TRANSITIONS = 1_000_000  # 8 MB


class Automaton(NamedTuple):
    """A deterministic automaton; states are numbered from 0.

    Attributes:
        start: The first state.
        transitions: Target of each symbol, for each state.
        accepting: Whether a text may end in a state, for each state.
    """

    start: int
    transitions: list[dict[int, int]]
    accepting: list[bool]


def acyclic(texts: Iterable[Sequence[int]]) -> Automaton:
    """Returns the minimal automaton that accepts some texts.

    Source: Daciuk et al. 2000, "Incremental Construction of Minimal Acyclic Finite-State
    Automata", the algorithm for sorted texts.

    Args:
        texts: Ids of each text; sorted, each only once.
    """
    states: dict[tuple[bool, tuple[tuple[int, int], ...]], int] = {}
    # The states along the last text, which may still get transitions.
    path: list[tuple[bool, dict[int, int]]] = [(False, {})]
    last: Sequence[int] = ()

    def close(depth: int) -> None:
        """Replaces the states below a depth by equal states that exist, or numbers them."""
        while len(path) > depth + 1:
            accepting, transitions = path.pop()
            number = states.setdefault((accepting, tuple(transitions.items())), len(states))
            path[-1][1][last[len(path) - 1]] = number

    for text in texts:
        common = next((n for n, (a, b) in enumerate(zip(last, text, strict=False)) if a != b),
                      min(len(last), len(text)))
        close(common)
        path.extend((False, {}) for _ in text[common:])
        path[-1] = (True, path[-1][1])
        last = text
    close(0)
    start = states.setdefault((path[0][0], tuple(path[0][1].items())), len(states))
    return Automaton(start, [dict(transitions) for _, transitions in states],
                     [accepting for accepting, _ in states])


def make_table(automaton: Automaton, longest: int) -> TransitionTable | None:
    """Returns the transition table of the texts of at most `longest` characters.

    The table has no transition that no accepted text uses.

    Returns:
        The table; `None` if the automaton accepts no such text.

    Raises:
        AocrError: The table has more than `MAX_TRANSITIONS` transitions.
    """
    distances = _distances_to_accepting(automaton)
    if distances.get(automaton.start, longest + 1) > longest:
        return None
    numbers = {automaton.start: START_STATE}
    depths = {automaton.start: 0}
    first, symbols, targets = [0, 1], [EOS_ID], [FINAL_STATE]
    pending = deque([automaton.start])
    while pending:
        state = pending.popleft()
        if automaton.accepting[state]:
            symbols.append(EOS_ID)
            targets.append(FINAL_STATE)
        for symbol, target in automaton.transitions[state].items():
            if depths[state] + 1 + distances.get(target, longest) > longest:
                continue
            if target not in numbers:
                numbers[target] = len(numbers) + START_STATE
                depths[target] = depths[state] + 1
                pending.append(target)
            symbols.append(symbol)
            targets.append(numbers[target])
        first.append(len(symbols))
    if len(symbols) > MAX_TRANSITIONS:
        raise AocrError(f"the automaton of the accepted texts has {len(symbols):,} transitions, "
                        f"and at most {MAX_TRANSITIONS:,} are possible; give a shorter --lexicon "
                        "or --pattern")
    steps = [0, *(distances[state] + 1 for state in numbers)]
    arrays = [np.array(values, np.int32) for values in (first, symbols, targets, steps)]
    return TransitionTable(arrays[0], arrays[1], arrays[2], arrays[3], longest + 1)


def _distances_to_accepting(automaton: Automaton) -> dict[int, int]:
    """Returns the smallest number of characters from each state to an accepting one."""
    sources: list[list[int]] = [[] for _ in automaton.transitions]
    for state, transitions in enumerate(automaton.transitions):
        for target in transitions.values():
            sources[target].append(state)
    pending = deque(state for state, accepts in enumerate(automaton.accepting) if accepts)
    distances = dict.fromkeys(pending, 0)
    while pending:
        target = pending.popleft()
        for state in sources[target]:
            if state not in distances:
                distances[state] = distances[target] + 1
                pending.append(state)
    return distances
