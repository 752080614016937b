"""Predictions do not depend on the kind of source, the batch, or the format of the model."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import aocr
from aocr.config import ModelConfig
from aocr.data import pipeline, sampler
from aocr.data.index import build_index
from aocr.errors import AocrError, SkipError
from aocr.images import preprocessing
from aocr.inference.decoding import score_greedy
from aocr.inference.graph import RecognitionGraph
from aocr.inference.recognizer import BATCH_SIZE, Recognizer, Result, similar_batches
from aocr.inference.sources import Source
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer, SavedModelRecognizer
from aocr.model import AttentionOCR, Decoded
from aocr.model.loss import sequence_loss
from tests.conftest import World
from tests.drawing import with_orientation, word


@pytest.fixture(scope="module")
def recognizer(world: World) -> CheckpointRecognizer:
    return CheckpointRecognizer.load(world.model_dir)


def assert_same(actual: Result, expected: Result) -> None:
    """Asserts equal texts, and probabilities equal to 1e-5."""
    assert actual.text == expected.text
    assert actual.probability == pytest.approx(expected.probability, abs=1e-5)
    assert [character for character, _ in actual.characters] == [
        character for character, _ in expected.characters]
    assert [probability for _, probability in actual.characters] == pytest.approx(
        [probability for _, probability in expected.characters], abs=1e-5)


def test_every_kind_of_source_gives_the_same_result(world: World, recognizer: Recognizer) -> None:
    path = world.images[0]
    with Image.open(path) as image:
        pixels = np.asarray(image)
        sources: list[Source] = [
            str(path), path, path.read_bytes(), bytearray(path.read_bytes()),
            memoryview(path.read_bytes()), image.copy(), pixels, pixels[:, :, None],
            np.repeat(pixels[:, :, None], 3, axis=2)]
    results = recognizer.predict(sources)
    assert isinstance(results, list)
    for source, result in zip(sources, results, strict=True):
        assert_same(result, results[0])
        alone = recognizer.predict(source)
        assert isinstance(alone, Result)
        assert_same(alone, results[0])


def test_records_are_not_rotated(recognizer: Recognizer) -> None:
    image = with_orientation(word("AB", (60, 24)), 6, "JPEG")
    (record,), shown = recognizer.predict_records([image]), recognizer.predict(image)
    assert isinstance(record, Result)
    assert isinstance(shown, Result)
    assert (record.width, shown.width) == (80, 13)


def test_an_open_file_is_refused_with_what_to_pass(world: World, recognizer: Recognizer) -> None:
    with open(world.images[0], "rb") as file:
        for images in (file, [world.images[0], file]):
            with pytest.raises(TypeError, match=r"not BufferedReader; pass its content, file\.rea"):
                recognizer.predict(images)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an image is a path, .*, not int$"):
        recognizer.predict([5])  # type: ignore[list-item]


def test_an_image_alone_gives_the_same_result_as_in_a_batch(world: World, recognizer: Recognizer
                                                            ) -> None:
    results = recognizer.predict(world.images)
    assert isinstance(results, list)
    for path, result in zip(world.images, results, strict=True):
        alone = recognizer.predict(path)
        assert isinstance(alone, Result)
        assert_same(alone, result)


def test_a_checkpoint_and_its_saved_model_give_the_same_results(
        world: World, recognizer: Recognizer, exported: Path) -> None:
    saved_model = Recognizer.load(exported)
    assert isinstance(saved_model, SavedModelRecognizer)
    for result, expected in zip(saved_model.predict_each(world.images, attention=True),
                                recognizer.predict_each(world.images, attention=True),
                                strict=True):
        assert isinstance(result, Result)
        assert isinstance(expected, Result)
        assert_same(result, expected)
        assert result.attention is not None
        assert expected.attention is not None
        np.testing.assert_allclose(result.attention, expected.attention, atol=1e-5)


def test_a_recognizer_of_one_kind_refuses_a_model_of_the_other(world: World, exported: Path
                                                               ) -> None:
    with pytest.raises(AocrError, match="holds an exported model"):
        CheckpointRecognizer.load(exported)
    with pytest.raises(AocrError, match="holds no SavedModel"):
        SavedModelRecognizer.load(world.model_dir)


def test_results_are_frozen_and_consistent(world: World, recognizer: Recognizer) -> None:
    result = recognizer.predict(world.images[0], attention=True)
    assert isinstance(result, Result)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.text = "other"  # type: ignore[misc]
    assert "".join(character for character, _ in result.characters) == result.text
    assert 0 <= result.probability <= 1
    assert result.attention is not None
    assert result.attention.shape == (len(result.text), -(-result.width // 4))
    np.testing.assert_allclose(result.attention.sum(1), 1, atol=1e-5)
    without = recognizer.predict(world.images[0])
    assert isinstance(without, Result)
    assert without.attention is None


def test_an_unreadable_image_does_not_affect_the_others(world: World, recognizer: Recognizer
                                                        ) -> None:
    damaged = bytearray(world.images[0].read_bytes())
    damaged[60:90] = bytes(30)
    results = recognizer.predict_each([world.images[0], b"text", bytes(damaged), "missing.png"])
    assert isinstance(results[0], Result)
    assert [type(result) for result in results[1:]] == [SkipError] * 3
    with pytest.raises(AocrError, match="image 1"):
        recognizer.predict([world.images[0], bytes(damaged)])


@given(st.lists(st.floats(0.1, 50), max_size=100))
def test_batches_hold_images_of_similar_widths(aspect_ratios: list[float]) -> None:
    batches = similar_batches(dict(enumerate(aspect_ratios)))
    assert [aspect_ratios[n] for batch in batches for n in batch] == sorted(aspect_ratios)
    for batch in batches:
        assert 1 <= len(batch) <= BATCH_SIZE
        assert aspect_ratios[batch[-1]] <= 1.5 * max(1, aspect_ratios[batch[0]])


def test_as_few_batches_as_possible_are_formed() -> None:
    similar = dict(enumerate([2.0] * BATCH_SIZE + [2.9] * BATCH_SIZE))
    assert len(similar_batches(similar)) == 2
    assert len(similar_batches({0: 2.0, 1: 2.9, 2: 3.1, 3: 4.5})) == 2


def test_no_images_give_no_results(recognizer: Recognizer) -> None:
    assert recognizer.predict([]) == []


@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000), (5, 40)])
def test_images_of_extreme_shapes_are_read(recognizer: Recognizer, size: tuple[int, int]) -> None:
    assert isinstance(recognizer.predict(Image.new("L", size, 200)), Result)


def test_probability_is_the_product_up_to_and_including_eos() -> None:
    config = ModelConfig(alphabet="AB")
    probabilities = np.array(
        [[[.05, .05, .1, .7, .1], [.1, .1, .6, .1, .1], [.2, .2, .2, .3, .1]],
         [[.05, .05, .1, .7, .1], [.1, .6, .1, .1, .1], [.2, .1, .2, .1, .4]]])
    logits = tf.constant(np.log(probabilities), tf.float32)
    ids = tf.argmax(logits, -1, tf.int32)
    graph = RecognitionGraph(config, AttentionOCR(config))
    prediction = graph._predict(score_greedy(Decoded(ids, logits, tf.ones([2, 3, 1]))),
                                tf.constant([4, 4]))
    assert prediction.output.numpy().tolist() == [b"A", b"AB"]
    np.testing.assert_allclose(prediction.probability, [.7 * .6, .7 * .6 * .4], rtol=1e-6)
    assert prediction.characters.numpy().tolist() == [[b"A", b"", b""], [b"A", b"", b"B"]]


def test_score_gives_the_loss_of_training_and_the_result_of_predict(
        world: World, recognizer: CheckpointRecognizer) -> None:
    graph = recognizer.graph
    index = build_index([str(world.records)], graph.config, graph.tokenizer)
    plan = sampler.bucketed_batches(index, 8)
    batch = next(iter(pipeline.make_pipeline(index, plan, graph.tokenizer, graph.config)))
    memory = graph.model.encode(batch.images, batch.widths)
    losses = sequence_loss(
        graph.model.teacher_forced(memory, batch.targets), batch.targets)
    predicted = recognizer.predict([world.images[n] for n in batch.records.numpy()])
    assert isinstance(predicted, list)
    scored = list(recognizer.score(batch))
    np.testing.assert_allclose([loss for _, loss in scored], losses, rtol=1e-5)
    for (result, _), expected in zip(scored, predicted, strict=True):
        assert_same(result, expected)


def test_the_package_provides_the_recognizer_lazily() -> None:
    assert aocr.Recognizer is Recognizer
    with pytest.raises(AttributeError):
        _ = aocr.unknown


def test_a_directory_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AocrError, match="no checkpoint"):
        Recognizer.load(tmp_path)


def test_a_damaged_saved_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(AocrError, match="is not a model"):
        Recognizer.load(tmp_path)


def test_batches_of_all_sizes_and_formats_share_one_graph(
        world: World, recognizer: CheckpointRecognizer) -> None:
    results = recognizer.predict(world.images[:3])
    assert isinstance(results, list)
    for n in (1, 2, 5):
        recognizer.predict(world.images[:n])
    bmp = io.BytesIO()
    with Image.open(world.images[0]) as image:
        image.convert("RGB").save(bmp, "BMP")
    result = recognizer.predict(bmp.getvalue())
    assert isinstance(result, Result)
    assert_same(result, results[0])
    assert recognizer._read.experimental_get_tracing_count() == 1


def test_the_graph_gives_the_same_texts_for_preprocessed_images(
        world: World, recognizer: CheckpointRecognizer) -> None:
    encoded = tf.constant([path.read_bytes() for path in world.images])
    images, widths = preprocessing.preprocess_batch(encoded, recognizer.config)
    prediction = recognizer.graph.read_images(images, widths)
    expected = recognizer.predict(world.images)
    assert isinstance(expected, list)
    assert [text.decode() for text in prediction.output.numpy()] == [
        result.text for result in expected]


def test_unknown_settings_and_precisions_are_refused(world: World) -> None:
    with pytest.raises(AocrError, match="precision must be one of float32"):
        Recognizer.load(world.model_dir, precision="int8")
    with pytest.raises(AocrError, match="no setting 'width'"):
        Recognizer.load(world.model_dir, width=3)


def test_a_damaged_image_that_pillow_has_not_decoded_yet_is_an_error(
        world: World, recognizer: Recognizer) -> None:
    content = world.images[0].read_bytes()
    lazy = Image.open(io.BytesIO(content[:len(content) // 2]))
    with pytest.raises(AocrError, match="damaged"):
        recognizer.predict(lazy)
