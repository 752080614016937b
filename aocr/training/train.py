"""The training loop: batches, step, log line, validation, checkpoint."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

from aocr.checkpoints import directory, loader, warm_start
from aocr.checkpoints.loader import LoadedModel
from aocr.config import ModelConfig, TrainConfig
from aocr.data import splits
from aocr.data.index import index_checksum
from aocr.data.splits import Splits
from aocr.inference.graph import RecognitionGraph
from aocr.runtime.console import log
from aocr.runtime.distributed import Cluster
from aocr.tokenizer import Tokenizer
from aocr.training import output
from aocr.training.loop import TrainingLoop
from aocr.training.output import NullOutput
from aocr.training.signals import stop_on_signal
from aocr.training.state import int_value
from aocr.training.step import Trainer
from aocr.training.validation import Validator


class StartOptions(NamedTuple):
    """What a training begins with.

    Attributes:
        resume: Go on from the newest checkpoint of the folder, if there is one.
        strict: Refuse a damaged checkpoint instead of taking the one before it.
        weights: A model to take the first weights from, where the folder is not resumed.
    """

    resume: bool = True
    strict: bool = False
    weights: LoadedModel | None = None


def train(patterns: Sequence[str], model_dir: str, config: ModelConfig, settings: TrainConfig,
          start: StartOptions, cluster: Cluster) -> int:
    """Trains a model and leaves its checkpoints in a folder.

    Args:
        patterns: Names or globs of TFRecords files.
        model_dir: The folder; made when it is not there.
        config: Sizes of the network; those of the folder when it is resumed.
        settings: How to train.
        start: From what.
        cluster: On which devices; every process of it calls this with the same arguments.

    Returns:
        The number of the signal that ended the run, or 0.

    Raises:
        AocrError: No image can be used, the folder does not fit or is taken, the disk is full, or
            another process of the cluster has gone.
    """
    tokenizer = Tokenizer(config.alphabet)
    images = splits.load_splits(patterns, config, settings, tokenizer)
    with (output.open_output(model_dir, cluster.chief) as place, stop_on_signal() as stop,
          cluster.lost_worker_errors(
              "start all of them again, and they go on from the last checkpoint")):
        trainer = Trainer(config, settings, cluster)
        _begin(trainer, place, config, start)
        if cluster.workers > 1:
            _agree_on_start(trainer, images, (config, settings), cluster)
        place.begin(trainer, config, settings.keep, start.resume)
        reader = RecognitionGraph(config, trainer.average, settings.max_pixels,
                                  tokenizer=tokenizer)
        validator = (Validator(images.validation, reader, settings.batch_size, cluster)
                     if images.validation is not None else None)
        ended_by = TrainingLoop(trainer, images, config, settings, tokenizer, validator, place,
                                stop, cluster).to_the_end()
    return ended_by or stop.signal or 0


def _begin(trainer: Trainer, place: NullOutput, config: ModelConfig, start: StartOptions) -> None:
    """Restores what is there, or takes the first weights from elsewhere."""
    if start.resume:
        paths = directory.candidates(place.path, "latest", start.strict)
        path = loader.restore(trainer.checkpoint, paths, start.strict)
        log.info(f"Reading model parameters from {path}")
        log.info(f"Going on at step {int_value(trainer.step)}, "
                 f"epoch {int_value(trainer.epoch) + 1}.")
        return
    if directory.started(place.path):
        log.info(f"Starting anew in {place.path}; its earlier checkpoints are no longer used, "
                 f"and the best of them is removed.")
    if start.weights is not None:
        warm_start.copy(start.weights, trainer.model, config)


def _agree_on_start(trainer: Trainer, images: Splits, flags: tuple[ModelConfig, TrainConfig],
                    cluster: Cluster) -> None:
    """Makes sure that all processes stand where the chief stands, before it writes anything.

    Raises:
        AocrError: They begin at other steps or with other weights, have found other records, or
            were given other flags.
    """
    validation = 0 if images.validation is None else index_checksum(images.validation)
    cluster.require_agreement({
        "step that they start at": int_value(trainer.step),
        "weights (as a checksum)": trainer.model.checksum(),
        "records to train on (as a checksum)": index_checksum(images.training),
        "records to validate on (as a checksum)": validation,
        "flags (as a checksum)": zlib.crc32(repr(flags).encode())})
