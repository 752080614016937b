r"""Regular expressions as finite automata.

Python's own parser reads the expression, and its matcher tells which characters of the alphabet
are in a class such as `\w`, so that an expression means what it means in `re.fullmatch`. (The
packages interegular, greenery and automata-lib, which make automata of expressions, know ASCII
classes only or another syntax, and no limit to the size.)

Source: Thompson 1968, "Regular Expression Search Algorithm", for the nondeterministic automaton;
Rabin and Scott 1959, "Finite Automata and Their Decision Problems", for the deterministic one.
"""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from aocr.config import shown
from aocr.errors import AocrError
from aocr.inference.automaton import MAX_TRANSITIONS, Automaton
from aocr.tokenizer import FIRST_CHARACTER_ID

MAX_STATES = 100_000
_MODULES = (("re._parser", "re._compiler") if sys.version_info >= (3, 11)
            else ("sre_parse", "sre_compile"))
_parser, _compiler = map(importlib.import_module, _MODULES)

# Names of the parser's operations.
_CHARACTERS = ("LITERAL", "NOT_LITERAL", "ANY", "IN")
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT")
_TYPES = re.ASCII | re.UNICODE  # of which one is set
_STARTS, _ENDS = ("AT_BEGINNING", "AT_BEGINNING_STRING"), ("AT_END", "AT_END_STRING")
_ALWAYS, _AT_START, _AT_END = "always", "at start", "at end"  # when a jump is possible
_UNSUPPORTED = {
    "GROUPREF": "back-references", "GROUPREF_EXISTS": "conditions on groups",
    "ASSERT": "lookahead and lookbehind", "ASSERT_NOT": "lookahead and lookbehind",
    "FAILURE": "lookahead and lookbehind", "ATOMIC_GROUP": "atomic groups",
    "POSSESSIVE_REPEAT": "possessive quantifiers", "AT": r"word boundaries (\b, \B)"}


def check(pattern: str) -> None:
    """Checks that Python accepts a regular expression.

    Raises:
        AocrError: It does not; the message names the place.
    """
    try:
        with warnings.catch_warnings():
            # Such as [[:alpha:]], which Python reads as the characters of a set and ":]".
            warnings.simplefilter("error", FutureWarning)
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError, FutureWarning) as error:
        raise AocrError(f"--pattern {shown(pattern)} is not a regular expression: {error}"
                        ) from error


def to_automaton(pattern: str, alphabet: str, longest: int) -> Automaton:
    """Returns an automaton of the texts that match a regular expression as a whole.

    Args:
        pattern: A regular expression of Python's `re`.
        alphabet: The characters; the first has id 3.
        longest: Maximum number of characters of the texts that the automaton need accept.

    Raises:
        AocrError: The expression is broken, has a feature that is not supported, or needs more
            than `MAX_STATES` states.
    """
    check(pattern)
    parsed = _parser.parse(pattern)
    nfa = _Nfa(pattern, alphabet, longest)
    try:
        end = nfa.add_sequence(parsed, parsed.state.flags, nfa.add_state())
    except RecursionError as error:
        raise AocrError(f"--pattern {shown(pattern)} nests groups too deeply") from error
    return _determinize(nfa, end, longest)


class _Nfa:
    """A nondeterministic automaton; state 0 is the first.

    Args:
        pattern: The regular expression, for messages.
        alphabet: The characters.
        longest: Maximum length of a text.

    Attributes:
        moves: For each state, sets of characters, and the states that they lead to.
        jumps: For each state, states that are reached without a character, and when.
    """

    def __init__(self, pattern: str, alphabet: str, longest: int) -> None:
        self.pattern = pattern
        self.moves: list[list[tuple[frozenset[int], int]]] = []
        self.jumps: list[list[tuple[str, int]]] = []
        self._alphabet = alphabet
        self._most_copies = longest + 1  # of an item that consumes a character
        self._classes: dict[str, frozenset[int]] = {}

    def add_state(self) -> int:
        """Adds a state and returns its number."""
        if len(self.moves) >= MAX_STATES:
            raise _too_large(self.pattern)
        self.moves.append([])
        self.jumps.append([])
        return len(self.moves) - 1

    def add_sequence(self, items: Iterable[tuple[Any, Any]], flags: int, state: int) -> int:
        """Adds parsed items one after the other.

        Args:
            items: Pairs of operation and argument, as Python's parser returns them.
            flags: Flags of `re` for these items.
            state: The state before them.

        Returns:
            The state after them.
        """
        for operation, argument in items:
            state = self._add(str(operation), operation, argument, flags, state)
        return state

    def _add(self, name: str, operation: object, argument: Any, flags: int,  # noqa: ANN401
             state: int) -> int:
        if name in _CHARACTERS:
            end = self.add_state()
            self.moves[state].append((self._characters((operation, argument), flags), end))
            return end
        if name == "SUBPATTERN":
            _, added, removed, items = argument
            if added & _TYPES:
                removed |= _TYPES & ~added
            return self.add_sequence(items, (flags | added) & ~removed, state)
        if name == "BRANCH":
            return self._add_branches(argument[1], flags, state)
        if name in _REPEATS:
            return self._add_repeat(argument, flags, state)
        if str(argument) in _STARTS + _ENDS:
            return self._jump(state, self.add_state(),
                              _AT_START if str(argument) in _STARTS else _AT_END)
        raise AocrError(f"--pattern {shown(self.pattern)} uses "
                        f"{_UNSUPPORTED.get(name, name)}, which are not supported here")

    def _add_branches(self, branches: Iterable[Any], flags: int, state: int) -> int:
        end = self.add_state()
        for branch in branches:
            self._jump(self.add_sequence(branch, flags, state), end)
        return end

    def _add_repeat(self, argument: tuple[int, int, Any], flags: int, state: int) -> int:
        least, most, items = argument
        copies = min(least, self._most_copies)
        for _ in range(copies):
            state = self.add_sequence(items, flags, state)
        if most > self._most_copies:
            loop = self._jump(state, self.add_state())
            return self._jump(self.add_sequence(items, flags, loop), loop)
        end = self.add_state()
        for _ in range(most - copies):
            self._jump(state, end)
            state = self.add_sequence(items, flags, state)
        return self._jump(state, end)

    def _jump(self, state: int, target: int, when: str = _ALWAYS) -> int:
        self.jumps[state].append((when, target))
        return target

    def _characters(self, item: tuple[object, Any], flags: int) -> frozenset[int]:
        """Returns the ids of the characters that one parsed item matches."""
        key = f"{item} {flags}"
        if key not in self._classes:
            matcher = _compiler.compile(_parser.SubPattern(_parser.State(), [item]), flags)
            self._classes[key] = frozenset(
                n for n, character in enumerate(self._alphabet, FIRST_CHARACTER_ID)
                if matcher.fullmatch(character))
        return self._classes[key]

    def closure(self, states: Iterable[int], *when: str) -> frozenset[int]:
        """Returns states and all that are reached from them by jumps that are possible."""
        reached = set(states)
        pending = list(reached)
        while pending:
            for condition, target in self.jumps[pending.pop()]:
                if condition in when and target not in reached:
                    reached.add(target)
                    pending.append(target)
        return frozenset(reached)


def _determinize(nfa: _Nfa, end: int, longest: int) -> Automaton:
    """Returns the deterministic automaton of the texts of at most `longest` characters."""
    start = nfa.closure([0], _ALWAYS, _AT_START)
    numbers = {start: 0}
    transitions: list[dict[int, int]] = []
    accepting = [end in nfa.closure(start, _ALWAYS, _AT_START, _AT_END)]
    pending = [start]
    size = 0
    for _ in range(longest):
        reached = []
        for states in pending:
            transitions.append({})
            for characters, target in _moves(nfa, states):
                size += len(characters)
                if size > MAX_TRANSITIONS or len(numbers) > MAX_STATES:
                    raise _too_large(nfa.pattern)
                if target not in numbers:
                    numbers[target] = len(numbers)
                    accepting.append(end in nfa.closure(target, _ALWAYS, _AT_END))
                    reached.append(target)
                transitions[-1].update(dict.fromkeys(characters, numbers[target]))
        pending = reached
    transitions.extend({} for _ in pending)
    return Automaton(0, transitions, accepting)


def _moves(nfa: _Nfa, states: frozenset[int]) -> Iterator[tuple[list[int], frozenset[int]]]:
    """Yields characters, and the states that each of them leads to from a set of states."""
    targets: defaultdict[int, set[int]] = defaultdict(set)
    for state in states:
        for characters, target in nfa.moves[state]:
            for character in characters:
                targets[character].add(target)
    groups: defaultdict[frozenset[int], list[int]] = defaultdict(list)
    for character, reached in targets.items():
        groups[frozenset(reached)].append(character)
    for states_after, members in groups.items():
        yield members, nfa.closure(states_after, _ALWAYS)


def _too_large(pattern: str) -> AocrError:
    return AocrError(f"--pattern {shown(pattern)} needs an automaton of more than {MAX_STATES:,} "
                     f"states or {MAX_TRANSITIONS:,} transitions; shorten its repeats")
