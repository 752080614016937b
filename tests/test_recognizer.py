"""One answer everywhere: whatever the way in, the batch, the neighbours."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import aocr
from aocr.config import ModelConfig
from aocr.data import pipeline, sampler
from aocr.data.index import build_index
from aocr.errors import AocrError, SkipError
from aocr.images import preprocessing
from aocr.inference.graph import RecognitionGraph
from aocr.inference.recognizer import Recognizer, Result, Source
from aocr.model import AttentionOCR, Decoded
from aocr.model.loss import sequence_loss
from aocr.tokenizer import Tokenizer
from tests.conftest import World


@pytest.fixture(scope="module")
def restored(world: World) -> Recognizer:
    return Recognizer.load(world.model_dir)


def assert_same(one: Result, other: Result) -> None:
    """Equal texts, probabilities to 1e-5."""
    assert one.text == other.text
    assert one.probability == pytest.approx(other.probability, abs=1e-5)
    assert [c for c, _ in one.characters] == [c for c, _ in other.characters]
    assert [p for _, p in one.characters] == pytest.approx(
        [p for _, p in other.characters], abs=1e-5)


def test_every_way_in_gives_the_same_answer(world: World, restored: Recognizer) -> None:
    path = world.images[0]
    with Image.open(path) as opened:
        pixels = np.asarray(opened)
        ways: list[Source] = [
            str(path), path, path.read_bytes(), opened.copy(), pixels, pixels[:, :, None],
            np.repeat(pixels[:, :, None], 3, axis=2)]
    answers = restored.predict(ways)
    assert isinstance(answers, list)
    for answer in answers:
        assert_same(answer, answers[0])


def test_alone_equals_in_a_batch(world: World, restored: Recognizer) -> None:
    together = restored.predict(world.images)
    assert isinstance(together, list)
    for path, answer in zip(world.images, together, strict=True):
        alone = restored.predict(path)
        assert isinstance(alone, Result)
        assert_same(alone, answer)


def test_checkpoint_and_saved_model_give_the_same_answer(
        world: World, restored: Recognizer, exported: Path) -> None:
    served = Recognizer.load(exported)
    for one, other in zip(restored.predict_each(world.images, attention=True),
                          served.predict_each(world.images, attention=True), strict=True):
        assert isinstance(one, Result)
        assert isinstance(other, Result)
        assert_same(one, other)
        assert one.attention is not None
        assert other.attention is not None
        np.testing.assert_allclose(one.attention, other.attention, atol=1e-5)


def test_results_are_frozen_and_consistent(world: World, restored: Recognizer) -> None:
    result = restored.predict(world.images[0], attention=True)
    assert isinstance(result, Result)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.text = "other"  # type: ignore[misc]
    assert "".join(character for character, _ in result.characters) == result.text
    assert 0 <= result.probability <= 1
    assert result.attention is not None
    assert result.attention.shape == (len(result.text), -(-result.width // 4))
    np.testing.assert_allclose(result.attention.sum(1), 1, atol=1e-5)
    plain = restored.predict(world.images[0])
    assert isinstance(plain, Result)
    assert plain.attention is None


def test_a_bad_image_costs_only_itself(world: World, restored: Recognizer) -> None:
    broken = bytearray(world.images[0].read_bytes())
    broken[60:90] = bytes(30)
    answers = restored.predict_each([world.images[0], b"text", bytes(broken), "missing.png"])
    assert isinstance(answers[0], Result)
    assert [type(answer) for answer in answers[1:]] == [SkipError] * 3
    with pytest.raises(AocrError, match="image 1"):
        restored.predict([world.images[0], bytes(broken)])


def test_no_image_gives_no_answer(restored: Recognizer) -> None:
    assert restored.predict([]) == []


@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000), (5, 40)])
def test_extreme_shapes_are_read(restored: Recognizer, size: tuple[int, int]) -> None:
    assert isinstance(restored.predict(Image.new("L", size, 200)), Result)


def test_probability_is_the_product_up_to_and_including_eos() -> None:
    config = ModelConfig(alphabet="AB")
    chances = np.array([[[.05, .05, .1, .7, .1], [.1, .1, .6, .1, .1], [.2, .2, .2, .3, .1]],
                        [[.05, .05, .1, .7, .1], [.1, .6, .1, .1, .1], [.2, .1, .2, .1, .4]]])
    logits = tf.constant(np.log(chances), tf.float32)
    ids = tf.argmax(logits, -1, tf.int32)
    reader = RecognitionGraph(config, AttentionOCR(config))
    reading = reader._reading(Decoded(ids, logits, tf.ones([2, 3, 1])), tf.constant([4, 4]))
    assert reading.output.numpy().tolist() == [b"A", b"AB"]
    np.testing.assert_allclose(reading.probability, [.7 * .6, .7 * .6 * .4], rtol=1e-6)
    assert reading.characters.numpy().tolist() == [[b"A", b"", b""], [b"A", b"", b"B"]]


def test_examine_scores_as_training_does_and_reads_as_predict_does(
        world: World, restored: Recognizer) -> None:
    reader = restored.reader
    assert reader is not None
    tokenizer = Tokenizer(reader.config.alphabet)
    index = build_index([str(world.records)], reader.config, tokenizer)
    plan = sampler.bucketed_batches(index, 8)
    batch = next(iter(pipeline.make_pipeline(index, plan, tokenizer, reader.config)))
    memory = reader.model.encode(batch.images, batch.widths)
    losses = sequence_loss(
        reader.model.teacher_forced(memory, batch.targets), batch.targets)
    alone = restored.predict([world.images[n] for n in batch.records.numpy()])
    assert isinstance(alone, list)
    examined = list(restored.examine(batch))
    np.testing.assert_allclose([loss for _, loss in examined], losses, rtol=1e-5)
    for (result, _), answer in zip(examined, alone, strict=True):
        assert_same(result, answer)


def test_the_package_offers_the_recognizer_without_importing_it() -> None:
    assert aocr.Recognizer is Recognizer
    with pytest.raises(AttributeError):
        _ = aocr.unknown


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AocrError, match="no checkpoint"):
        Recognizer.load(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(AocrError, match="is not a model"):
        Recognizer.load(tmp_path)


def _tracings(recognizer: Recognizer) -> tuple[int, ...]:
    """Of the graph for usual files, and of that which looks at the sizes itself."""
    return tuple(read.experimental_get_tracing_count()  # type: ignore[attr-defined]
                 for read in (recognizer._read_usual, recognizer._read))


def test_no_retracing_over_batches_of_any_size(world: World, restored: Recognizer) -> None:
    restored.predict(world.images[:3])
    before = _tracings(restored)
    for n in (1, 2, 5):
        restored.predict(world.images[:n])
    assert _tracings(restored) == before


def test_sizes_are_looked_at_in_the_graph_where_python_left_them_to_pillow(world: World) -> None:
    fresh = Recognizer.load(world.model_dir)
    usual = fresh.predict(world.images[0])
    assert _tracings(fresh) == (1, 0)
    unusual = io.BytesIO()
    with Image.open(world.images[0]) as opened:
        opened.convert("RGB").save(unusual, "BMP")
    read = fresh.predict([world.images[0], unusual.getvalue()])
    assert _tracings(fresh) == (1, 1)
    assert isinstance(usual, Result)
    assert isinstance(read, list)
    for answer in read:
        assert_same(answer, usual)


def test_load_batch_is_what_the_graph_reads(world: World, restored: Recognizer) -> None:
    reader = restored.reader
    assert reader is not None
    encoded = tf.constant([path.read_bytes() for path in world.images])
    images, widths = preprocessing.preprocess_batch(encoded, reader.config)
    reading = reader.read_images(images, widths)
    expected = restored.predict(world.images)
    assert isinstance(expected, list)
    assert [text.decode() for text in reading.output.numpy()] == [
        result.text for result in expected]


def test_a_setting_or_precision_that_is_none_is_refused(world: World) -> None:
    with pytest.raises(AocrError, match="precision must be one of float32"):
        Recognizer.load(world.model_dir, precision="int8")
    with pytest.raises(AocrError, match="no setting 'width'"):
        Recognizer.load(world.model_dir, width=3)


def test_a_damaged_image_that_pillow_has_not_read_yet_costs_only_itself(
        world: World, restored: Recognizer) -> None:
    content = world.images[0].read_bytes()
    lazy = Image.open(io.BytesIO(content[:len(content) // 2]))
    with pytest.raises(AocrError, match="damaged"):
        restored.predict(lazy)
