"""Settings, their defaults, and the sizes that are derived from them."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

from aocr.errors import AocrError

IMAGE_HEIGHT = 32
COLUMN_PIXELS = 4  # of the input, for each feature column
DIGITS_AND_CAPITALS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PRINTABLE_ASCII = "".join(map(chr, range(32, 127)))
KERNELS = ("bicubic-antialias", "bicubic-tf1", "bicubic-tf2")
LAYOUTS = ("own-width", "padded")
ALPHA_RULES = ("composite", "drop")
OVERSIZE = ("skip", "shrink")
# Settings on which the shapes of the weights depend, besides the alphabet and the channels.
NETWORK_SETTINGS = ("use_gru", "attn_num_layers", "attn_num_hidden", "target_embedding_size")
AUGMENTATIONS = ("off", "light", "strong")
SCHEDULES = ("inverse-sqrt", "constant", "cosine")
FLOAT32 = "float32"
PRECISIONS = (FLOAT32, "mixed_bfloat16", "mixed_float16")
CONV_FEATURES = 512
_MAX_SIZE = 1 << 20  # pixels, characters, units
MAX_PIXELS = 4096 * 3072  # a photograph of 12 megapixels
_BYTES_PER_PIXEL = 4
_SHOWN_CHARACTERS = 80
_PATIENCE = 10  # validations


class OptimizerSettings(NamedTuple):
    """How an optimizer trains by default, and how its checkpoints are recognized.

    Attributes:
        learning_rate: Rate after the warm-up.
        warm_start_rate: The same for a run that starts from the weights of another model.
        schedule: One of `SCHEDULES`.
        warm_up_steps: Steps over which the rate increases from 0 to `learning_rate`.
        max_norm_ratio: Multiple of the norms of the last steps that gradients are clipped to.
        curriculum: Whether the attention is guided, and dropout increases, over the first steps.
        attribute: Attribute of its class in `aocr.training.optimizer` that no other one has.
    """

    learning_rate: float
    warm_start_rate: float
    schedule: str
    warm_up_steps: int
    max_norm_ratio: float
    curriculum: bool
    attribute: str


OPTIMIZERS = {
    "adam": OptimizerSettings(0.002, 0.001, "inverse-sqrt", 20, 3.0, True, "means"),
    # The original's.
    "adadelta": OptimizerSettings(1.0, 1.0, "constant", 1, math.inf, False, "accumulators"),
}
DEFAULT_OPTIMIZER = "adam"


@dataclass(frozen=True)
class ModelConfig:
    """Settings that determine the weights and the input, stored beside the weights.

    Attributes:
        max_width: Maximum width in pixels of the images that training and testing use.
        max_height: With `max_width`, the largest aspect ratio that is kept (see `input_width`).
        max_prediction: Maximum length of a label in characters.
        alphabet: The characters, in the order of their ids (the first has id 3).
        color: Whether images have three channels instead of one.
        use_gru: Whether the decoder has GRU cells instead of LSTM cells.
        attn_num_layers: Number of decoder layers.
        attn_num_hidden: Number of units of a decoder layer.
        target_embedding_size: Size of a character's embedding.
        oversize: What happens to an image wider than `max_width`: "skip" or "shrink".
        kernel: The resizing kernel: bicubic with antialiasing, or that of TensorFlow 1 or 2
            without it (models of the original).
        layout: "own-width": every image is scaled to height 32 and keeps its aspect ratio.
            "padded" (models of the original): an image is never enlarged, and padded to 32 x
            `input_width` with values that the network reads as black.
        alpha: "composite": transparent pixels show a white background, or a black one if the
            visible pixels are lighter than mid-gray. "drop" (models of the original, and those
            trained before this setting existed): they show their color as if they were opaque.
        temperature: Divides the logits before probabilities are computed (temperature scaling);
            fitted to the validation images.

    Raises:
        AocrError: A value is out of its range.
    """

    max_width: int = 160
    max_height: int = 60
    max_prediction: int = 8
    alphabet: str = DIGITS_AND_CAPITALS
    color: bool = False
    use_gru: bool = False
    attn_num_layers: int = 2
    attn_num_hidden: int = 128
    target_embedding_size: int = 10
    oversize: str = "skip"
    kernel: str = KERNELS[0]
    layout: str = LAYOUTS[0]
    alpha: str = ALPHA_RULES[0]
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("max_width", "max_height", "max_prediction", "attn_num_layers",
                     "attn_num_hidden", "target_embedding_size"):
            _require_at_least(self, name, 1)
            if getattr(self, name) > _MAX_SIZE:
                raise AocrError(f"{flag(name)} must be at most {_MAX_SIZE}, got "
                                f"{shown(getattr(self, name))}")
        if not isinstance(self.alphabet, str):
            raise AocrError(f"the alphabet must be text, got {shown(self.alphabet)}")
        if not self.alphabet or len(set(self.alphabet)) != len(self.alphabet):
            raise AocrError("the alphabet must hold at least one character, and each only once")
        if any(0xD800 <= ord(character) < 0xE000 for character in self.alphabet):
            raise AocrError("the alphabet must hold Unicode characters, and contains a surrogate")
        _require_one_of(self, "oversize", OVERSIZE)
        _require_one_of(self, "kernel", KERNELS)
        _require_one_of(self, "layout", LAYOUTS)
        _require_one_of(self, "alpha", ALPHA_RULES)
        if isinstance(self.temperature, bool) or not isinstance(
                self.temperature, int | float) or not 0 < self.temperature < float("inf"):
            raise AocrError(f"the temperature must be a number above 0, got "
                            f"{shown(self.temperature)}")

    @property
    def input_width(self) -> int:
        """Widest input of the network in pixels: `ceil(max_width / max_height * 32)`."""
        return -(-self.max_width * IMAGE_HEIGHT // self.max_height)

    @property
    def channels(self) -> int:
        """Color channels of the input: 1 or 3."""
        return 3 if self.color else 1

    @property
    def vocab_size(self) -> int:
        """Number of ids: those of PAD, GO and EOS, and one for each character."""
        return 3 + len(self.alphabet)

    @property
    def encoder_units(self) -> int:
        """LSTM units of each direction of the encoder."""
        return self.attn_num_layers * self.attn_num_hidden

    @property
    def memory_units(self) -> int:
        """Size of a memory column: the units of both directions."""
        return 2 * self.encoder_units

    @property
    def decode_steps(self) -> int:
        """Maximum number of steps of greedy decoding, as in the original."""
        return self.max_prediction + 2

    def to_json(self) -> dict[str, object]:
        """Returns the settings as values that JSON can represent."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run that do not affect the shapes of the weights.

    Attributes:
        batch_size: Maximum number of images in a step.
        num_epoch: Passes over the data, including those of earlier runs.
        max_steps: Maximum number of steps, including those of earlier runs; `None` for no limit.
        steps_per_checkpoint: Steps between two checkpoints.
        optimizer: "adam", or "adadelta", the original's; `None`: the optimizer of the checkpoint
            that a run resumes from. For a new run, `None` is AdaDelta if a learning rate is given
            and the run does not start from the weights of another model, as in the original;
            otherwise it is Adam.
        initial_learning_rate: `None`: that of the checkpoint; for a new run, 0.002 for Adam
            (0.001 if it starts from the weights of another model) and 1.0 for AdaDelta.
        schedule: How the learning rate falls: "inverse-sqrt", "constant", or "cosine", which ends
            at `max_steps`; `None`: that of the checkpoint; for a new run or another optimizer,
            "inverse-sqrt" for Adam and "constant" for AdaDelta.
        max_gradient_norm: Global norm that gradients are clipped to; `None` disables clipping,
            also that of Adam relative to the norms of the last steps.
        augment: Strength of the random distortions of the training images: "off", "light" or
            "strong".
        seed: Seed of all random numbers: weights, order of the data, augmentation, dropout.
        keep: Number of newest checkpoints to keep, besides the best.
        val: Names or globs of TFRecords files to validate on.
        val_split: Share of the images to validate on instead of training on them.
        mix: Names or globs of TFRecords files, of which every batch holds some images.
        mix_share: The share of these images in a batch.
        early_stop: Number of validations without improvement after which training stops; `None`:
            10 if there is a validation and no `max_steps`, otherwise no limit.
        max_pixels: Maximum number of pixels that the header of an image may declare; larger images
            are skipped.
        precision: "float32", or the type in which the CNN and the encoder's input gates are
            computed, "mixed_bfloat16" or "mixed_float16"; weights, statistics, softmax, loss
            and validation are always float32.

    Raises:
        AocrError: A value is out of its range.
    """

    batch_size: int = 65
    num_epoch: int = 1000
    max_steps: int | None = None
    steps_per_checkpoint: int = 100
    optimizer: str | None = None
    initial_learning_rate: float | None = None
    schedule: str | None = None
    max_gradient_norm: float | None = 5.0
    augment: str = AUGMENTATIONS[0]
    seed: int = 0
    keep: int = 5
    val: tuple[str, ...] = ()
    val_split: float = 0.0
    mix: tuple[str, ...] = ()
    mix_share: float = 0.25
    early_stop: int | None = None
    max_pixels: int = MAX_PIXELS
    precision: str = FLOAT32

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_epoch", "steps_per_checkpoint", "keep", "max_pixels"):
            _require_at_least(self, name, 1)
        _require_at_least(self, "seed", 0)
        if self.seed >= 1 << 63:
            raise AocrError(f"--seed must be below 2^63, got {self.seed}")
        if self.max_steps is not None:
            _require_at_least(self, "max_steps", 1)
        _require_one_of(self, "augment", AUGMENTATIONS)
        _require_one_of(self, "precision", PRECISIONS)
        if self.optimizer is not None:
            _require_one_of(self, "optimizer", tuple(OPTIMIZERS))
        if self.schedule is not None:
            _require_one_of(self, "schedule", SCHEDULES)
        if self.schedule == "cosine" and self.max_steps is None:
            raise AocrError("--schedule cosine needs --max-steps, the step at which it ends")
        self._check_validation()
        self._check_mixture()
        for name in ("initial_learning_rate", "max_gradient_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise AocrError(f"{flag(name)} must be above 0, got {value}")

    @property
    def new_optimizer(self) -> str:
        """The optimizer of a new run."""
        return self.optimizer or (
            DEFAULT_OPTIMIZER if self.initial_learning_rate is None else "adadelta")

    @property
    def new_learning_rate(self) -> float:
        """The learning rate of a new run, reached after the warm-up."""
        if self.initial_learning_rate is not None:
            return self.initial_learning_rate
        return OPTIMIZERS[self.new_optimizer].learning_rate

    @property
    def used_schedule(self) -> str:
        """The schedule of the learning rate."""
        return self.schedule or OPTIMIZERS[self.new_optimizer].schedule

    @property
    def patience(self) -> int | None:
        """Number of validations without improvement that end a run; `None` for no limit."""
        if self.early_stop is None and self.max_steps is None and (self.val or self.val_split):
            return _PATIENCE
        return self.early_stop

    def _check_mixture(self) -> None:
        if not 0 < self.mix_share < 1:
            raise AocrError(f"--mix-share must be above 0 and below 1, got {self.mix_share}")
        if self.mix_share != TrainConfig.mix_share and not self.mix:
            raise AocrError("--mix-share needs --mix DATASET, the images whose share it is")
        if self.mix and self.batch_size < 2:
            raise AocrError("--mix needs --batch-size 2 or more: a batch holds images of both "
                            "datasets")

    def _check_validation(self) -> None:
        if not 0 <= self.val_split < 1:
            raise AocrError(f"--val-split must be at least 0 and below 1, got {self.val_split}")
        if self.val and self.val_split:
            raise AocrError("--val and --val-split exclude each other; give one")
        if self.early_stop is not None:
            _require_at_least(self, "early_stop", 1)
            if not self.val and not self.val_split:
                raise AocrError("--early-stop needs images to validate on: give --val DATASET or "
                                "--val-split 0.1")


def max_bytes(max_pixels: int) -> int:
    """Returns the maximum size of an image file in bytes: that of its uncompressed pixels."""
    return _BYTES_PER_PIXEL * max_pixels + (1 << 20)


def compute_type(precision: str) -> str:
    """Returns the type in which a precision computes: `bfloat16` for `mixed_bfloat16`."""
    return precision.removeprefix("mixed_")


def flag(name: str) -> str:
    """Returns the flag of a setting: `--max-width` for `max_width`."""
    return "--" + name.replace("_", "-")


def shown(value: object) -> str:
    """Returns the `repr` of a value, truncated for an error message of one line."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _require_at_least(config: object, name: str, least: int) -> None:
    value = getattr(config, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise AocrError(f"{flag(name)} must be a whole number of at least {least}, got "
                        f"{shown(value)}")


def _require_one_of(config: object, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(config, name)
    if value not in choices:
        raise AocrError(f"{flag(name)} must be one of {', '.join(choices)}, got {shown(value)}")
