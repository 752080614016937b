"""Exported models: signatures, shapes, the C API, TensorFlow 1 sessions, frozen graphs."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import fingerprinting_utils

import aocr
from aocr.checkpoints import config_file
from aocr.cli.main import main
from aocr.config import ModelConfig
from aocr.errors import AocrError
from aocr.images import preprocessing, transcoding
from aocr.inference import export, export_formats, warmup
from aocr.inference.exported_model import ExportedModel
from aocr.inference.graph import RecognitionGraph
from aocr.inference.recognizer import Result
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.model import AttentionOCR
from aocr.tokenizer import EOS_ID
from tests import capi
from tests.conftest import World, draw, in_process
from tests.drawing import opened

SESSION_INPUT = "input_image_as_bytes:0"
SESSION_OUTPUTS = ["prediction:0", "probability:0"]


@pytest.fixture(scope="module")
def encoded(world: World, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Images of several formats and sizes."""
    directory = tmp_path_factory.mktemp("mixed")
    names = ("a.png", "b.jpg", "c.gif", "d.bmp", "e.webp")
    drawn = [draw(word, directory / name) for word, name in
             zip(("ONE", "FOUR", "X", "SEVEN77", "EI"), names, strict=True)]
    return [path.read_bytes() for path in [*drawn, *world.images[:2]]]


@pytest.fixture(scope="module")
def recognizer(world: World) -> CheckpointRecognizer:
    return CheckpointRecognizer.load(world.model_dir)


@pytest.fixture(scope="module")
def expected(recognizer: CheckpointRecognizer, encoded: list[bytes]) -> list[Result]:
    """The checkpoint's results for `encoded`."""
    results = recognizer.predict(encoded)
    assert isinstance(results, list)
    return results


@pytest.fixture(scope="module")
def saved(recognizer: CheckpointRecognizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel."""
    directory = tmp_path_factory.mktemp("saved") / "model"
    export.export(recognizer, str(directory), "savedmodel")
    return directory


@pytest.fixture(scope="module")
def frozen(recognizer: CheckpointRecognizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a frozen graph."""
    directory = tmp_path_factory.mktemp("frozen")
    export.export(recognizer, str(directory), "frozengraph")
    return directory / "frozen_graph.pb"


def frozen_graph(path: Path) -> tf.compat.v1.GraphDef:
    return tf.compat.v1.GraphDef.FromString(path.read_bytes())


def assert_outputs(output: np.ndarray, probability: np.ndarray, expected: list[Result]) -> None:
    """Asserts vectors of equal texts, and of probabilities equal to 1e-5."""
    assert [text.decode() for text in output] == [result.text for result in expected]
    np.testing.assert_allclose(
        probability, [result.probability for result in expected], atol=1e-5)


def test_a_saved_model_holds_no_gradients(saved: Path) -> None:
    """TensorFlow never frees a model with custom gradients once it has been loaded."""
    proto = saved_model_pb2.SavedModel.FromString((saved / "saved_model.pb").read_bytes())
    for graph in (meta_graph.graph_def for meta_graph in proto.meta_graphs):
        functions = list(graph.library.function)
        assert len(functions) > 10
        assert not graph.library.registered_gradients
        assert not [node.name for function in functions for node in function.node_def
                    if "_gradient_op_type" in node.attr]


def test_the_default_signature_gives_the_shape_of_the_request(
        saved: Path, encoded: list[bytes], expected: list[Result]) -> None:
    with capi.SavedModel(saved) as model:
        several = model.run({"input": encoded})
        assert_outputs(several["output"], several["probability"], expected)
        assert several["probability"].dtype == np.float64
        scalar = model.run({"input": encoded[0]})
        assert (scalar["output"].shape, scalar["probability"].shape) == ((), ())
        assert scalar["output"].item().decode() == expected[0].text
        vector = model.run({"input": encoded[:1]})
        assert (vector["output"].shape, vector["probability"].shape) == ((1,), (1,))
        empty = model.run({"input": []})
        assert (empty["output"].shape, empty["probability"].shape) == ((0,), (0,))


def test_all_signatures_give_the_results_of_the_checkpoint(
        saved: Path, recognizer: CheckpointRecognizer, encoded: list[bytes],
        expected: list[Result]) -> None:
    graph = recognizer.graph
    images, widths = preprocessing.preprocess_batch(tf.constant(encoded), graph.config)
    with capi.SavedModel(saved) as model:
        details = model.run({"input": encoded}, "serving_details")
        decoded = model.run({"images": images.numpy(), "widths": widths.numpy()},
                            "serving_images")
    assert_outputs(details["output"], details["probability"], expected)
    assert ["".join(character.decode() for character in row) for row in details["characters"]] == [
        result.text for result in expected]
    for name in ("probability", "attention", "character_probabilities"):
        np.testing.assert_allclose(decoded[name], details[name], atol=1e-5)
    symbols = np.array(graph.tokenizer.symbols())
    before_eos = np.cumsum(decoded["ids"] == EOS_ID, axis=1) == 0
    assert ["".join(symbols[ids[printed]]) for ids, printed in zip(
        decoded["ids"], before_eos, strict=True)] == [result.text for result in expected]


def test_an_undecodable_image_leaves_the_saved_model_usable(
        saved: Path, encoded: list[bytes], expected: list[Result]) -> None:
    with capi.SavedModel(saved) as model:
        with pytest.raises(capi.CApiError):
            model.run({"input": [b"not an image"]})
        assert model.run({"input": encoded[0]})["output"].item().decode() == expected[0].text


def test_the_default_signature_is_that_of_the_original(saved: Path) -> None:
    signature = tf.saved_model.load(str(saved)).signatures["serving_default"]
    (spec,) = signature.structured_input_signature[1].values()
    assert (spec.name, spec.dtype, spec.shape.rank) == ("input", tf.string, None)
    outputs = signature.structured_outputs
    assert {name: spec.dtype for name, spec in outputs.items()} == {
        "output": tf.string, "probability": tf.float64}


def test_a_tensorflow_1_session_finds_the_tensors_of_the_original_in_a_saved_model(
        saved: Path, encoded: list[bytes], expected: list[Result]) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.saved_model.load(session, ["serve"], str(saved))
        output, probability = session.run(SESSION_OUTPUTS, {SESSION_INPUT: encoded})
        assert_outputs(output, probability, expected)
        text, probability = session.run(SESSION_OUTPUTS, {SESSION_INPUT: encoded[0]})
        assert text.decode() == expected[0].text
        assert np.shape(probability) == ()
        vector, _ = session.run(SESSION_OUTPUTS, {SESSION_INPUT: encoded[:1]})
        assert np.shape(vector) == (1,)


def test_the_fingerprint_is_that_of_the_saved_model(saved: Path, tmp_path: Path) -> None:
    fingerprint = tf.saved_model.experimental.read_fingerprint(str(saved))
    shutil.copy(saved / "saved_model.pb", tmp_path)
    fingerprinting_utils.write_fingerprint(str(tmp_path))
    expected = tf.saved_model.experimental.read_fingerprint(str(tmp_path))
    assert fingerprint.saved_model_checksum == expected.saved_model_checksum


def test_a_frozen_graph_gives_scalars_for_exactly_one_image(
        frozen: Path, encoded: list[bytes], expected: list[Result]) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(frozen_graph(frozen), name="")
        output, probability = session.run(SESSION_OUTPUTS, {SESSION_INPUT: encoded})
        assert_outputs(output, probability, expected)
        for images in (encoded[0], encoded[:1], [encoded[:1]]):
            text, probability = session.run(SESSION_OUTPUTS, {SESSION_INPUT: images})
            assert text.decode() == expected[0].text
            assert np.shape(probability) == ()
        for array, shape in (([encoded[:2]], (1, 2)), (np.array([], object), (0,))):
            output, probability = session.run(SESSION_OUTPUTS, {SESSION_INPUT: array})
            assert (np.shape(output), np.shape(probability)) == (shape, shape)


def test_a_frozen_graph_holds_only_what_its_outputs_need(frozen: Path) -> None:
    graph = frozen_graph(frozen)
    assert [node.name for node in graph.node if node.op == "Placeholder"] == [
        "input_image_as_bytes"]
    used = {name.lstrip("^").partition(":")[0] for node in graph.node for name in node.input}
    assert {node.name for node in graph.node} - used == {"prediction", "probability"}


def test_the_example_in_the_readme_loads_both_formats(
        world: World, saved: Path, frozen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    readme = Path(aocr.__file__).with_name("serving") / "README.md"
    examples = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = (example for example in examples if "frozen_graph.pb" in example)
    for path, target in (("images/003198.png", world.images[0]), ("exported/1", saved),
                         ("frozen", frozen.parent)):
        link = tmp_path / "quickstart" / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    monkeypatch.chdir(tmp_path)
    exec(example, {})  # noqa: S102
    text, text_and_probability = capsys.readouterr().out.splitlines()
    assert text_and_probability.rpartition(" ")[0] == text


@pytest.mark.slow
def test_two_frozen_graphs_of_one_checkpoint_are_equal_byte_for_byte(
        recognizer: CheckpointRecognizer, frozen: Path, tmp_path: Path) -> None:
    export.export(recognizer, str(tmp_path), "frozengraph")
    assert (tmp_path / "frozen_graph.pb").read_bytes() == frozen.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "file"), [("savedmodel", "saved_model.pb"),
                                            ("frozengraph", "frozen_graph.pb")])
def test_the_command_writes_equal_graphs_in_two_runs(
        world: World, tmp_path: Path, kind: str, file: str) -> None:
    hashes = set()
    for name in ("first", "second"):
        process = in_process("export", name, "--model-dir", str(world.model_dir), "--format", kind,
                             cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        hashes.add(hashlib.sha256((tmp_path / name / file).read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_warm_up_requests_are_what_tensorflow_serving_reads(saved: Path) -> None:
    pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api is missing: pip "
                        "install 'aocr[serve]'")
    requests = warmup.read(str(saved))
    assert {signature for signature, _ in requests} == {
        "serving_default", "serving_details", "serving_images"}
    with capi.SavedModel(saved) as model:
        for signature, inputs in requests:
            assert all(value.ndim > 0 for value in inputs.values())  # scalars are not batched
            outputs = model.run(inputs, signature)
            (batch,) = {len(value) for value in (*inputs.values(), *outputs.values())}
            assert batch > 0


@pytest.mark.slow
def test_an_export_to_the_same_directory_replaces_the_earlier_one(world: World, saved: Path
                                                                  ) -> None:
    (saved / "note.txt").write_text("kept")
    (saved / "assets" / "logo.svg").write_text("kept")
    code = main(["export", str(saved), "--model-dir", str(world.model_dir),
                 "--log-path", str(world.log)])
    assert code == 0
    assert (saved / "note.txt").exists()
    assert (saved / "assets" / "logo.svg").exists()
    assert not Path(f"{saved}.part").exists()
    assert (saved / "variables" / "variables.index").exists()


def test_the_export_carries_its_config(world: World, saved: Path) -> None:
    extra = saved / "assets.extra"
    assert config_file.load(str(extra)) == config_file.load(str(world.model_dir))


def test_the_config_states_how_an_image_is_scaled_for_serving_images(
        world: World, saved: Path, tmp_path: Path, recognizer: CheckpointRecognizer) -> None:
    content = json.loads((saved / "assets.extra" / "config.json").read_text(encoding="utf-8"))
    limits = content["serving_images"]
    assert limits == {"height": 32, "max_width": 86, "channels": 1}
    path = draw("ABCDEFGHIJKL", tmp_path / "wide.png")
    with Image.open(path) as image:
        pixels = np.asarray(image, np.float32)[:, :, None]
    height, width = pixels.shape[:2]
    width = math.ceil(width / height * limits["height"])
    assert width > limits["max_width"]  # the image is squeezed
    width = min(width, limits["max_width"])
    scaled = tf.image.resize(pixels, [limits["height"], width], "bicubic", antialias=True)
    outputs = tf.saved_model.load(str(saved)).signatures["serving_images"](
        images=(scaled[None] - 128) / 128, widths=tf.constant([width]))
    expected = recognizer.predict(path)
    assert isinstance(expected, Result)
    np.testing.assert_allclose(outputs["probability"], [expected.probability], atol=1e-5)


@pytest.mark.parametrize(("step", "shift"), [(-1, 0), (1, 1.5e-5)])
def test_swapped_channels_and_other_probabilities_are_noticed(step: int, shift: float) -> None:
    config = ModelConfig(color=True, alphabet="AB", max_prediction=2, attn_num_hidden=4,
                         temperature=1e-3)  # so that probabilities are far from 0
    model = ExportedModel(RecognitionGraph(config, AttentionOCR(config)))

    def predict(images: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
        changed = [transcoding.from_array(np.asarray(opened(image))[:, :, ::step])
                   for image in np.ravel(images.numpy())]
        outputs = model.read(tf.reshape(tf.constant(changed), images.shape))
        return outputs["output"].numpy(), outputs["probability"].numpy() - shift

    with pytest.raises(AocrError, match="does not give the predictions of the checkpoint"):
        export._check_predictions(model, predict, "out")


@pytest.mark.slow
def test_an_export_with_other_predictions_is_not_kept(
        recognizer: CheckpointRecognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_directory: str) -> export_formats.Predict:
        return lambda encoded: (np.full(encoded.shape, b"?", object), np.ones(encoded.shape))

    formats = export_formats.FORMATS
    monkeypatch.setitem(formats, "savedmodel", formats["savedmodel"]._replace(load=load))
    with pytest.raises(AocrError, match="does not give the predictions of the checkpoint"):
        export.export(recognizer, str(tmp_path / "out"), "savedmodel")
    assert list(tmp_path.iterdir()) == []
