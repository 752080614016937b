"""Selection and precision of GPUs."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from aocr.runtime.console import log

ALL_GPUS = "all"


def use_gpus(selection: Sequence[int] | str | None, max_gpus: int | None = None) -> list[str]:
    """Makes only the selected GPUs of this machine visible to TensorFlow.

    Args:
        selection: Their numbers, of which -1 means none, or "all"; `None` selects the first one
            if there is any.
        max_gpus: Maximum number of GPUs to use.

    Returns:
        The names of the visible GPUs, numbered from 0, such as `GPU:0`.
    """
    gpus = tf.config.list_physical_devices("GPU")
    numbers = (range(len(gpus)) if selection == ALL_GPUS
               else dict.fromkeys(map(int, selection or (0,))))
    visible = [gpus[number] for number in numbers if 0 <= number < len(gpus)][:max_gpus]
    tf.config.set_visible_devices(visible, "GPU")
    missing = [f"GPU {number}" for number in numbers if number >= len(gpus)]
    if selection is not None and (missing or (selection == ALL_GPUS and not visible)):
        used = f"{len(visible)} of them" if visible else "the CPU"
        log.info(f"There is no {' and no '.join(missing) or 'GPU'} (found {len(gpus)}); "
                 f"using {used}.")
    return [f"GPU:{number}" for number in range(len(visible))]


def disable_tf32() -> bool:
    """Disables TensorFloat-32, in which GPUs round to 10 bits by default.

    With it, a prediction would depend on the batch and on the device.

    Returns:
        Whether it was enabled.
    """
    was_enabled: bool = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    return was_enabled
