"""The devices and machines of one command: who takes part, who reads which images, who writes."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from aocr.runtime.console import log

ALL_GPUS = "all"
def use_gpus(wanted: Sequence[int] | str | None, most: int | None = None) -> list[str]:
    """Leaves TensorFlow the chosen GPUs of this machine, or none.

    Args:
        wanted: Their numbers, of which -1 means none, or "all"; `None` takes the first if there
            is one.
        most: How many of them can be used.

    Returns:
        Their names as TensorFlow counts them from then on.
    """
    gpus = tf.config.list_physical_devices("GPU")
    numbers = range(len(gpus)) if wanted == ALL_GPUS else dict.fromkeys(map(int, wanted or (0,)))
    found = [gpus[number] for number in numbers if 0 <= number < len(gpus)][:most]
    tf.config.set_visible_devices(found, "GPU")
    missing = [f"GPU {number}" for number in numbers if number >= len(gpus)]
    if wanted is not None and (missing or (wanted == ALL_GPUS and not found)):
        used = f"{len(found)} of them" if found else "the CPU"
        log.info(f"There is no {' and no '.join(missing) or 'GPU'} (found {len(gpus)}); "
                 f"using {used}.")
    return [f"GPU:{number}" for number in range(len(found))]


def disable_tf32() -> bool:
    """Keeps GPUs from rounding to 10 bits (TensorFlow's default there).

    What an image reads as must not depend on its batch or device.

    Returns:
        Whether they rounded before.
    """
    rounded: bool = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    return rounded
