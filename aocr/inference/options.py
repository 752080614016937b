"""Options of decoding; imports neither TensorFlow nor other runtimes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from aocr.config import shown
from aocr.errors import AocrError

MAX_BEAM = 100


@dataclass(frozen=True)
class DecodingOptions:
    """What a model may return, and how many candidates.

    Attributes:
        pattern: A regular expression of Python's `re`, which every text matches as a whole;
            `None` for no restriction.
        lexicon: Path of a UTF-8 text file with one entry a line, one of which every text is;
            `None` for no restriction.
        beam: Number of hypotheses of the beam search; 1 is greedy decoding. `None`: `n_best`, or 1.
        n_best: Number of candidates to return besides the text; `None` for none.

    Raises:
        AocrError: A number is out of its range.
    """

    pattern: str | None = None
    lexicon: str | None = None
    beam: int | None = None
    n_best: int | None = None

    def __post_init__(self) -> None:
        for name in ("beam", "n_best"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)
                                      or not 1 <= value <= MAX_BEAM):
                raise AocrError(f"--{name.replace('_', '-')} must be a whole number from 1 to "
                                f"{MAX_BEAM}, got {shown(value)}")
        if self.n_best is not None and self.beam_width < self.n_best:
            raise AocrError(f"--n-best {self.n_best} needs --beam {self.n_best} or more, got "
                            f"--beam {self.beam}")

    @property
    def beam_width(self) -> int:
        """Number of hypotheses of the beam search."""
        return self.beam or self.n_best or 1


def split_settings(settings: dict[str, Any]) -> tuple[DecodingOptions, dict[str, Any]]:
    """Separates decoding options from settings of the model.

    Raises:
        AocrError: An option is out of its range.
    """
    names = {field.name for field in dataclasses.fields(DecodingOptions)}
    options = {name: value for name, value in settings.items() if name in names}
    return DecodingOptions(**options), {
        name: value for name, value in settings.items() if name not in names}


def refuse_options(path: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of the model, if there are no decoding options.

    Args:
        path: Path of an exported model, which has its own.
        settings: Decoding options and settings of the model.

    Raises:
        AocrError: There are decoding options.
    """
    options, settings = split_settings(settings)
    if options != DecodingOptions():
        raise AocrError(f"{path} is an exported model, which returns what it was exported for; "
                        "give --pattern, --lexicon, --beam and --n-best to `aocr export`")
    return settings
