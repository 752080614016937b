"""What is served: signatures, shapes, the C API, frozen graphs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from aocr.checkpoints import config_file
from aocr.cli.main import main
from aocr.errors import AocrError
from aocr.images import preprocessing
from aocr.inference import export, warmup
from aocr.inference.graph import RecognitionGraph
from aocr.inference.recognizer import Recognizer, Result
from aocr.tokenizer import EOS_ID, Tokenizer
from tests import capi
from tests.conftest import World, draw


@pytest.fixture(scope="module")
def encoded(world: World, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Images of mixed formats and sizes."""
    folder = tmp_path_factory.mktemp("mixed")
    names = ("a.png", "b.jpg", "c.gif", "d.bmp", "e.webp")
    drawn = [draw(word, folder / name) for word, name in
             zip(("ONE", "FOUR", "X", "SEVEN77", "EI"), names, strict=True)]
    return [path.read_bytes() for path in [*drawn, *world.images[:2]]]


@pytest.fixture(scope="module")
def reader(world: World) -> RecognitionGraph:
    reader = Recognizer.load(world.model_dir).reader
    assert reader is not None
    return reader


@pytest.fixture(scope="module")
def answers(world: World, encoded: list[bytes]) -> list[Result]:
    found = Recognizer.load(world.model_dir).predict(encoded)
    assert isinstance(found, list)
    return found


@pytest.fixture(scope="module")
def saved(reader: RecognitionGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    export.export(reader, str(folder), "savedmodel")
    return folder


def assert_answers(output: np.ndarray, probability: np.ndarray, answers: list[Result]) -> None:
    """Equal texts, probabilities to 1e-5, in a vector."""
    assert [text.decode() for text in output] == [answer.text for answer in answers]
    np.testing.assert_allclose(probability, [a.probability for a in answers], atol=1e-5)


def test_a_saved_model_holds_no_gradients(saved: Path) -> None:
    """TensorFlow never lets go of a model with gradients of its own once it was loaded."""
    model = saved_model_pb2.SavedModel.FromString((saved / "saved_model.pb").read_bytes())
    for graph in (meta.graph_def for meta in model.meta_graphs):
        functions = list(graph.library.function)
        assert len(functions) > 10
        assert not graph.library.registered_gradients
        assert not [node.name for function in functions for node in function.node_def
                    if "_gradient_op_type" in node.attr]


def read_scaled(reader: RecognitionGraph, model: capi.SavedModel, encoded: list[bytes]
                ) -> dict[str, np.ndarray]:
    """The answers of `serving_images` to the images as the network sees them."""
    images, widths = preprocessing.preprocess_batch(tf.constant(encoded), reader.config)
    return model.run({"images": images.numpy(), "widths": widths.numpy()}, "serving_images")


def test_the_c_api_loads_the_saved_model_and_answers_as_the_checkpoint(
        saved: Path, reader: RecognitionGraph, encoded: list[bytes], answers: list[Result]) -> None:
    with capi.SavedModel(saved) as model:
        several = model.run({"input": encoded})
        assert_answers(several["output"], several["probability"], answers)
        assert several["probability"].dtype == np.float64
        one = model.run({"input": encoded[0]})
        assert (one["output"].shape, one["probability"].shape) == ((), ())
        assert one["output"].item().decode() == answers[0].text
        vector = model.run({"input": encoded[:1]})
        assert (vector["output"].shape, vector["probability"].shape) == ((1,), (1,))
        none = model.run({"input": []})
        assert (none["output"].shape, none["probability"].shape) == ((0,), (0,))
        details = model.run({"input": encoded}, "serving_details")
        assert_answers(details["output"], details["probability"], answers)
        assert ["".join(c.decode() for c in row) for row in details["characters"]] == [
            answer.text for answer in answers]
        read = read_scaled(reader, model, encoded)
        np.testing.assert_allclose(read["probability"], several["probability"], atol=1e-5)
        np.testing.assert_allclose(read["attention"], details["attention"], atol=1e-5)
        np.testing.assert_allclose(read["character_probabilities"],
                                   details["character_probabilities"], atol=1e-5)
        symbols = np.array(Tokenizer(reader.config.alphabet).symbols())
        before_eos = np.cumsum(read["ids"] == EOS_ID, axis=1) == 0
        assert ["".join(symbols[ids[use]]) for ids, use in zip(
            read["ids"], before_eos, strict=True)] == [answer.text for answer in answers]
        with pytest.raises(capi.CApiError):
            model.run({"input": [b"not an image"]})
        assert model.run({"input": encoded[0]})["output"].item().decode() == answers[0].text


def test_the_signature_is_the_originals(saved: Path) -> None:
    signature = tf.saved_model.load(str(saved)).signatures["serving_default"]
    (spec,) = signature.structured_input_signature[1].values()
    assert (spec.name, spec.dtype, spec.shape.rank) == ("input", tf.string, None)
    outputs = signature.structured_outputs
    assert {name: spec.dtype for name, spec in outputs.items()} == {
        "output": tf.string, "probability": tf.float64}


@pytest.mark.slow
def test_the_frozen_graph_keeps_the_originals_tensors(
        reader: RecognitionGraph, tmp_path: Path, encoded: list[bytes], answers: list[Result]
        ) -> None:
    export.export(reader, str(tmp_path / "frozen"), "frozengraph")
    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString((tmp_path / "frozen" / "frozen_graph.pb").read_bytes())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(definition, name="")
        fetches = ["prediction:0", "probability:0"]
        output, probability = session.run(fetches, {"input_image_as_bytes:0": encoded})
        assert_answers(output, probability, answers)
        text, chance = session.run(fetches, {"input_image_as_bytes:0": encoded[0]})
        assert text.decode() == answers[0].text
        assert np.shape(chance) == ()


@pytest.mark.slow
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
def test_a_version_is_written_once(reader: RecognitionGraph, tmp_path: Path) -> None:
    target = str(tmp_path / "served")
    assert export.export(reader, target, "savedmodel", 4) == f"{target}/4"
    assert sorted(path.name for path in (tmp_path / "served").iterdir()) == ["4"]
    with pytest.raises(AocrError, match="--model-version 5"):
        export.export(reader, target, "savedmodel", 4)


@pytest.mark.slow
def test_an_export_into_its_own_folder_replaces_the_earlier_one(world: World, saved: Path
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


@pytest.mark.slow
def test_a_frozen_graph_beside_a_saved_model_leaves_what_is_its_own(
        world: World, reader: RecognitionGraph, tmp_path: Path) -> None:
    both = str(tmp_path / "both")
    export.export(reader, both, "savedmodel")
    before = (tmp_path / "both" / "assets.extra" / "tf_serving_warmup_requests").read_bytes()
    export.export(reader, both, "frozengraph")
    kept = tmp_path / "both" / "assets.extra" / "tf_serving_warmup_requests"
    assert kept.read_bytes() == before
    other = RecognitionGraph(replace(reader.config, max_prediction=3), reader.model)
    with pytest.raises(AocrError, match="other settings"):
        export.export(other, both, "frozengraph")


def test_the_export_carries_its_config(world: World, saved: Path) -> None:
    extra = saved / "assets.extra"
    assert config_file.load(str(extra)) == config_file.load(str(world.model_dir))


@pytest.mark.slow
def test_an_export_that_answers_otherwise_is_not_kept(
        reader: RecognitionGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(_folder: str) -> object:
        return lambda question: (np.full(question.shape, b"?", object), np.ones(question.shape))

    monkeypatch.setattr(export, "_saved_model_answer", wrong)
    with pytest.raises(AocrError, match="does not answer as the checkpoint"):
        export.export(reader, str(tmp_path / "out"), "savedmodel")
    assert list(tmp_path.iterdir()) == []
