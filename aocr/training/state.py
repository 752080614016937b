"""The state of a training run: everything that a training step changes, as checkpoints hold it."""

from __future__ import annotations

import tensorflow as tf

from aocr.checkpoints import loader
from aocr.checkpoints.saver import Saved
from aocr.config import OPTIMIZERS, ModelConfig, TrainConfig
from aocr.data.sampler import Position
from aocr.errors import AocrError
from aocr.model import AttentionOCR
from aocr.model.layers import Initializer
from aocr.runtime.console import log
from aocr.runtime.distributed import Cluster
from aocr.training.averaging import Average
from aocr.training.clipping import GradientClipping
from aocr.training.curriculum import Curriculum
from aocr.training.learning_rate import LearningRate
from aocr.training.loss_scale import LossScale
from aocr.training.optimizer import make_optimizer
from aocr.training.resume_state import ResumeState


class Best(tf.Module):
    """The best validation so far: the highest word accuracy, and the lowest CER among equals.

    Attributes:
        word_accuracy: 0…1; below 0 before the first validation.
        cer: Its character error rate.
        step: Its step.
        waited: Number of validations since then that count as without improvement.
    """

    def __init__(self) -> None:
        super().__init__()
        self.word_accuracy = tf.Variable(-1.0, dtype=tf.float64, trainable=False)
        self.cer = tf.Variable(float("inf"), dtype=tf.float64, trainable=False)
        self.step, self.waited = (
            tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(2))

    def update(self, word_accuracy: float, cer: float, step: int) -> bool:
        """Takes a validation into account; returns whether it is the best."""
        if (word_accuracy, -cer) <= (self.word_accuracy.numpy(), -self.cer.numpy()):
            return False
        self.word_accuracy.assign(word_accuracy)
        self.cer.assign(cer)
        self.step.assign(step)
        self.waited.assign(0)
        return True

    def wait(self) -> int:
        """Counts a validation without improvement; returns the number of them."""
        return int(self.waited.assign_add(1).numpy())

    def reset(self) -> None:
        """Forgets all validations."""
        self.word_accuracy.assign(-1.0)
        self.cer.assign(float("inf"))
        self.step.assign(0)
        self.waited.assign(0)


# Earlier versions wrote checkpoints without them.
_LATER_PARTS = ("rate", "curriculum", "resume", "clipping")


class TrainingState:
    """The models, the optimizer and the counters of a training run.

    Args:
        config: Sizes of the network.
        settings: Optimizer, learning rate and clipping, and the seed of the weights.
        cluster: The replicas, each of which holds a copy of the variables.
        dtype: Type of the weights: float32, or float64 for exact comparisons.

    Attributes:
        model: The trained model.
        average: The averaged weights, which evaluation and export use.
        optimizer: The optimizer of the trained model.
        rate: The learning rate.
        curriculum: Guided attention and increasing dropout of the first steps.
        scale: The loss scale of float16 training.
        clipping: The clipping of the gradients.
        step: Number of steps taken, int64.
        epoch: Number of the current epoch, from 0, int64.
        position: Number of records of the current epoch that were used, int64.
        best: The best validation so far.
        resume: What a resumed run needs besides.
        checkpoint: All of the above.
        dtype: As above.
    """

    def __init__(self, config: ModelConfig, settings: TrainConfig, cluster: Cluster,
                 dtype: tf.DType = tf.float32) -> None:
        self.dtype = dtype
        self._optimizer_name = settings.new_optimizer
        with cluster.strategy.scope():
            self.model = AttentionOCR(config, Initializer(settings.seed, dtype))
            self.optimizer = make_optimizer(
                settings.new_optimizer, self.model.trainable_variables)
            self.rate = LearningRate(settings)
            defaults = OPTIMIZERS[settings.new_optimizer]
            self.curriculum = Curriculum(config, float(defaults.curriculum), dtype)
            self.clipping = GradientClipping(settings.max_gradient_norm, defaults.max_norm_ratio)
            self.step, self.epoch, self.position = (
                tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(3))
            self.best = Best()
            self.resume = ResumeState()
            self.scale = LossScale()
            self.average = Average(self.model, config, dtype)
        # The keywords are part of the checkpoint format.
        self._parts = {
            "model": self.average.model, "averaged": self.average.updates, "trained": self.model,
            "optimizer": self.optimizer, "step": self.step, "epoch": self.epoch,
            "position": self.position, "best": self.best, "scale": self.scale, "rate": self.rate,
            "curriculum": self.curriculum, "resume": self.resume, "clipping": self.clipping}
        self.checkpoint = tf.train.Checkpoint(**self._parts)

    def saved(self) -> Saved:
        """Returns the contents of the checkpoints of this run."""
        return Saved(self.checkpoint, tf.train.Checkpoint(model=self.average.model), self.step,
                     self.is_finite, self.lower_rate_advice)

    @property
    def data_position(self) -> Position:
        """Position in the data of the next batch."""
        return Position(int_value(self.epoch), int_value(self.position))

    @data_position.setter
    def data_position(self, position: Position) -> None:
        self.epoch.assign(position.epoch)
        self.position.assign(position.records)

    def lower_rate_advice(self) -> str:
        """Returns the advice for weights that are no longer finite."""
        return (f"a lower learning rate may help: --optimizer {self._optimizer_name} "
                f"--initial-learning-rate {self.rate.after_warm_up(self.step) / 4:.3g}")

    def start_with(self, training: int, validation: int | None) -> None:
        """Takes note of the records of a run that starts or resumes.

        If they are not those that the run was started with, the epoch starts again, or the
        validations so far no longer count.

        Args:
            training: Checksum of the records to train on, and of their order.
            validation: Checksum of the records to validate on; `None` for no validation.
        """
        resume = self.resume
        if training != int_value(resume.training):
            if int_value(resume.training):
                log.info("The images to train on are not those that the run was started with: "
                         f"epoch {int_value(self.epoch) + 1} starts again.")
                self.data_position = Position(int_value(self.epoch), 0)
            resume.recent = self.data_position
            resume.training.assign(training)
        if validation is not None and validation != int_value(resume.validation):
            if int_value(resume.validation) and self.best.word_accuracy.numpy() >= 0:
                log.info("The images to validate on are not those of the earlier validations: the "
                         f"best word accuracy so far, {self.best.word_accuracy.numpy():.2%} at "
                         f"step {int_value(self.best.step)}, no longer counts.")
                self.best.reset()
            resume.validation.assign(validation)

    def checkpoint_for(self, path: str) -> tf.train.Checkpoint:
        """Returns the parts of the state that can be restored from a checkpoint.

        Checkpoints of earlier versions lack some parts, and the variables of another optimizer
        than this one's are not used.

        Args:
            path: The checkpoint.
        """
        parts = dict(self._parts)
        saved = loader.variable_names(path)
        for name in _LATER_PARTS:
            if not any(variable.startswith(f"{name}/") for variable in saved):
                del parts[name]
        if saved_optimizer(path) != self._optimizer_name:
            del parts["optimizer"]
        return tf.train.Checkpoint(**parts)

    def is_finite(self) -> bool:
        """Returns whether all weights, averages and optimizer variables are finite numbers."""
        return bool(self._all_finite())

    @tf.function(autograph=False)
    def _all_finite(self) -> tf.Tensor:
        modules = self.model, self.average.model, self.optimizer
        variables = [variable for module in modules for variable in module.variables
                     if variable.dtype.is_floating]
        return tf.reduce_all(
            [tf.reduce_all(tf.math.is_finite(variable)) for variable in variables])


def saved_optimizer(path: str) -> str:
    """Returns the name of the optimizer whose variables a checkpoint holds.

    Raises:
        OpError: The checkpoint cannot be read.
        AocrError: It holds the variables of none of the known optimizers.
    """
    variables = loader.variable_names(path)
    for name, settings in OPTIMIZERS.items():
        prefix = f"optimizer/{settings.attribute}/"
        if any(variable.startswith(prefix) for variable in variables):
            return name
    raise AocrError(f"{path} holds the variables of none of the known optimizers, "
                    f"{', '.join(OPTIMIZERS)}; another version of aocr may have written it: to "
                    "start from its weights, give --init-from and another --model-dir")


def int_value(variable: tf.Variable) -> int:
    """Returns the value of an integer variable as a Python number."""
    return int(variable.numpy())
