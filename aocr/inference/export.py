"""SavedModel and frozen graph around the recognizer's function, checked before they are done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from aocr.checkpoints import config_file
from aocr.config import IMAGE_HEIGHT
from aocr.errors import AocrError, reason
from aocr.images import transcoding
from aocr.inference import warmup
from aocr.inference.graph import RecognitionGraph
from aocr.inference.saved_model import EXTRA_ASSETS
from aocr.runtime import filesystem

FROZEN_GRAPH_FILE = "frozen_graph.pb"
_MODELS = {"frozengraph": FROZEN_GRAPH_FILE, "savedmodel": "saved_model.pb"}
_TOLERANCE = 1e-5
_CHECK_SIZES = ((1, 1), (20, 60), (32, 32), (45, 301), (120, 40))
_PART = ".part"
Answer = tuple[Sequence[bytes], Sequence[float]]


class Served(tf.Module):
    """What a SavedModel holds: the weights as plain variables, and functions of bytes."""

    def __init__(self, reader: RecognitionGraph) -> None:
        super().__init__()
        self.weights = list(reader.model.variables)
        self._reader = (reader,)  # in a tuple: a SavedModel must not track the network's objects
        self.images = tf.function(self._images, autograph=False, input_signature=[
            tf.TensorSpec([None, IMAGE_HEIGHT, None, reader.config.channels], tf.float32,
                          name="images"),
            tf.TensorSpec([None], tf.int32, name="widths")])

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(None, tf.string, name="input")])
    def read(self, input: tf.Tensor) -> dict[str, tf.Tensor]:  # noqa: A002
        """Text and probability, in the shape of the question."""
        reading = self._reader[0].read(tf.reshape(input, [-1]))
        shape = tf.shape(input)
        return {"output": tf.reshape(reading.output, shape),
                "probability": tf.reshape(reading.probability, shape)}

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(None, tf.string, name="input")])
    def details(self, input: tf.Tensor) -> dict[str, tf.Tensor]:  # noqa: A002
        """Everything of a `Reading`, in the shape of the question."""
        reading = self._reader[0].read(tf.reshape(input, [-1]))
        return {name: tf.reshape(value, tf.concat([tf.shape(input), tf.shape(value)[1:]], 0))
                for name, value in reading._asdict().items()}

    def _images(self, images: tf.Tensor, widths: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the network finds in scaled images, before it is text."""
        scan = self._reader[0].scan(images, widths)
        return {"ids": scan.ids, "probability": scan.probability,
                "character_probabilities": scan.chances, "attention": scan.attention}


def export(reader: RecognitionGraph, target: str, kind: str, version: int | None = None) -> str:
    """Writes a model for serving.

    Args:
        reader: The model.
        target: The folder to write to.
        kind: "savedmodel" or "frozengraph".
        version: Write to the numbered folder `target/version/`, as TensorFlow Serving wants it.

    Returns:
        The folder written to.

    Raises:
        AocrError: The folder cannot be written, the version exists, or what was written does
            not answer as the checkpoint does.
    """
    folder = target if version is None else tf.io.gfile.join(target, str(version))
    _refuse_obstacles(target, folder, version)
    _refuse_another(folder, kind, reader)
    served = Served(reader)
    write, answer = ((_write_saved_model, _saved_model_answer) if kind == "savedmodel"
                     else (_write_frozen_graph, _frozen_graph_answer))
    # A server may watch the folder: nothing appears there before it is whole and checked.
    aside = folder.rstrip("/") + _PART
    try:
        filesystem.remove(aside)
        tf.io.gfile.makedirs(aside)
        write(served, aside)
        _write_config(aside, reader)
        _check(served, answer(aside), aside)
        _move(aside, folder)
    except (tf.errors.OpError, OSError) as error:
        raise AocrError(f"cannot write the export to {folder}: {reason(error)}") from error
    finally:
        filesystem.remove(aside)
    return folder


def _refuse_obstacles(target: str, folder: str, version: int | None) -> None:
    if tf.io.gfile.exists(target) and not tf.io.gfile.isdir(target):
        raise AocrError(f"{target} is a file; name a folder to export to")
    if version is not None and tf.io.gfile.exists(folder):
        free = max(filesystem.numbered_dirs(target)) + 1
        raise AocrError(f"{folder} exists, and a server may be using it; the next free number "
                        f"is --model-version {free}")


def _refuse_another(folder: str, kind: str, reader: RecognitionGraph) -> None:
    """Refuses to write beside a model in the other format that shares no settings with this one."""
    extra = tf.io.gfile.join(folder, EXTRA_ASSETS)
    others = [name for other, name in _MODELS.items() if other != kind
              and tf.io.gfile.exists(tf.io.gfile.join(folder, name))]
    if others and tf.io.gfile.isdir(extra) and config_file.load(extra) != reader.config:
        raise AocrError(f"{folder} holds the {others[0]} of a model with other settings; name "
                        "another folder")


def _write_saved_model(served: Served, folder: str) -> None:
    tf.saved_model.save(served, folder, signatures={
        "serving_default": served.read, "serving_details": served.details,
        "serving_images": served.images})
    if warmup.available():
        warmup.write(folder, _warm_up(served))


def _warm_up(served: Served) -> list[warmup.Request]:
    """A question to each signature.

    Vectors only: TensorFlow Serving refuses scalars when it batches, and with them the model.
    """
    drawn = np.array(_drawn(), object)
    (_, height, _, channels) = served.images.input_signature[0].shape
    scaled = {"images": np.zeros((1, height, height, channels), np.float32),
              "widths": np.array([height], np.int32)}
    return [("serving_default", {"input": drawn[:1]}), ("serving_default", {"input": drawn}),
            ("serving_details", {"input": drawn}), ("serving_images", scaled)]


def _write_frozen_graph(served: Served, folder: str) -> None:
    def read(input_image_as_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        answer = served.read(input_image_as_bytes)
        return answer["output"], answer["probability"]

    graph = tf.function(read, autograph=False).get_concrete_function(
        tf.TensorSpec(None, tf.string, name="input_image_as_bytes"))
    frozen = convert_variables_to_constants_v2(graph)
    definition = frozen.graph.as_graph_def()
    public = ("prediction", "probability")
    for name, tensor in zip(public, frozen.outputs, strict=True):
        node = definition.node.add(name=name, op="Identity", input=[tensor.op.name])
        node.attr["T"].type = tensor.dtype.as_datatype_enum
    with tf.io.gfile.GFile(tf.io.gfile.join(folder, FROZEN_GRAPH_FILE), "wb") as file:
        file.write(definition.SerializeToString())


def _write_config(folder: str, reader: RecognitionGraph) -> None:
    extra = tf.io.gfile.join(folder, EXTRA_ASSETS)
    tf.io.gfile.makedirs(extra)
    config_file.save(extra, reader.config)


def _saved_model_answer(folder: str) -> Callable[[tf.Tensor], Answer]:
    signature = tf.saved_model.load(folder).signatures["serving_default"]

    def answer(encoded: tf.Tensor) -> Answer:
        found = signature(input=encoded)
        return found["output"].numpy(), found["probability"].numpy()

    return answer


def _frozen_graph_answer(folder: str) -> Callable[[tf.Tensor], Answer]:
    definition = tf.compat.v1.GraphDef()
    with tf.io.gfile.GFile(tf.io.gfile.join(folder, FROZEN_GRAPH_FILE), "rb") as file:
        definition.ParseFromString(file.read())

    def answer(encoded: tf.Tensor) -> Answer:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            tf.import_graph_def(definition, name="")
            output, probability = session.run(
                ["prediction:0", "probability:0"], {"input_image_as_bytes:0": encoded.numpy()})
        return output, probability

    return answer


def _check(served: Served, answer: Callable[[tf.Tensor], Answer], folder: str) -> None:
    """Compares the written model with the restored one on drawn images."""
    encoded = tf.constant(_drawn())
    for question in (encoded, encoded[1]):
        truth = served.read(question)
        output, probability = answer(question)
        same = np.array_equal(output, truth["output"].numpy())
        if not same or not np.allclose(probability, truth["probability"].numpy(), atol=_TOLERANCE):
            raise AocrError(f"the model written to {folder} does not answer as the checkpoint "
                            "does; nothing was exported")


def _drawn() -> list[bytes]:
    """Images of several sizes with something on them, as PNG."""
    random = np.random.default_rng(0)
    return [transcoding.from_pillow(Image.fromarray(
        random.integers(0, 256, size, np.uint8)).convert("RGB")) for size in _CHECK_SIZES]


def _move(aside: str, folder: str) -> None:
    """Puts the export in its place: at once where folders can be renamed and nothing is there.

    Else file by file, and the model itself last: servers look for it, and so do we.
    """
    if not filesystem.is_remote(folder) and not tf.io.gfile.exists(folder):
        tf.io.gfile.rename(aside, folder)
        return
    *others, model = sorted(_files_in(aside), key=lambda name: (name in _MODELS.values(), name))
    filesystem.remove(tf.io.gfile.join(folder, model))
    for name in (*others, model):
        place = tf.io.gfile.join(folder, name)
        tf.io.gfile.makedirs(os.path.dirname(place))
        tf.io.gfile.rename(tf.io.gfile.join(aside, name), place, overwrite=True)


def _files_in(folder: str, within: str = "") -> Iterator[str]:
    """Names of all files in a folder and in those within it, relative to it."""
    for name in tf.io.gfile.listdir(tf.io.gfile.join(folder, within)):
        inside = os.path.join(within, name.rstrip("/"))
        place = tf.io.gfile.join(folder, inside)
        if tf.io.gfile.isdir(place):
            yield from _files_in(folder, inside)
        elif tf.io.gfile.exists(place):  # ram:// lists `assets.extra` as a file within `assets`
            yield inside
