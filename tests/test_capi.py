"""The client of the C API, with a small SavedModel."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.capi import CApiError, SavedModel, run


class _SmallModel(tf.Module):
    """Converts strings to upper case, decodes images and adds numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(0.25, dtype=tf.float64)

    @tf.function(input_signature=[tf.TensorSpec(None, tf.string, name="input")])
    def read(self, strings: tf.Tensor) -> dict[str, tf.Tensor]:
        probability = self.weight * tf.cast(tf.strings.length(strings), tf.float64)
        return {"output": tf.strings.upper(strings), "probability": probability}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.string, name="input")])
    def same(self, strings: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"output": tf.identity(strings)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="input")])
    def decode(self, content: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"shape": tf.shape(tf.io.decode_image(content))}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 3], tf.float32, name="floats"),
            tf.TensorSpec([], tf.int32, name="int"),
            tf.TensorSpec([None], tf.int64, name="longs"),
        ]
    )
    def add(self, floats: tf.Tensor, number: tf.Tensor, longs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "floats": floats + tf.cast(number, tf.float32),
            "int": number + 1,
            "longs": longs + tf.cast(number, tf.int64),
        }


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("small")
    module = _SmallModel()
    signatures = {"serving_default": module.read}
    signatures |= {name: getattr(module, name) for name in ("same", "decode", "add")}
    tf.saved_model.save(module, str(directory), signatures=signatures)
    return directory


@pytest.fixture(scope="module")
def model(model_dir: Path) -> Iterator[SavedModel]:
    with SavedModel(model_dir) as loaded:
        yield loaded


def test_a_scalar_gives_scalars(model: SavedModel) -> None:
    outputs = model.run({"input": b"abc"})
    assert sorted(outputs) == ["output", "probability"]
    assert outputs["output"].shape == outputs["probability"].shape == ()
    assert outputs["output"].item() == b"ABC"
    assert outputs["probability"].dtype == np.float64
    assert outputs["probability"].item() == 0.75


def test_a_vector_gives_vectors(model: SavedModel) -> None:
    outputs = model.run({"input": [b"a", b"", b"x" * 100]})
    assert outputs["output"].tolist() == [b"A", b"", b"X" * 100]
    assert outputs["probability"].tolist() == [0.25, 0.0, 25.0]


def test_an_empty_vector_gives_empty_vectors(model: SavedModel) -> None:
    outputs = model.run({"input": []})
    assert outputs["output"].shape == outputs["probability"].shape == (0,)


@pytest.mark.parametrize("value", [b"", b"a\0b\0", bytes(range(256)) * 1000])
def test_bytes_are_not_changed(model: SavedModel, value: bytes) -> None:
    assert model.run({"input": value}, "same")["output"].item() == value
    assert model.run({"input": [value] * 3}, "same")["output"].tolist() == [value] * 3


def test_an_array_of_strings_keeps_its_shape(model: SavedModel) -> None:
    array = np.array([[b"a", b"b\0", b"c"], [b"d", b"e", b"f"]], dtype=object)
    for value in (array, array.T):
        assert model.run({"input": value}, "same")["output"].tolist() == value.tolist()


def test_numbers_of_all_types_are_converted(model: SavedModel) -> None:
    floats = np.arange(6, dtype=np.float32).reshape(3, 2).T
    longs = np.array([2**40], dtype=np.int64)
    outputs = model.run({"longs": longs, "floats": floats, "int": np.array(5, np.int32)}, "add")
    np.testing.assert_array_equal(outputs["floats"], floats + 5)
    assert outputs["int"].dtype == np.int32
    assert outputs["int"].item() == 6
    assert outputs["longs"].dtype == np.int64
    assert outputs["longs"].tolist() == [2**40 + 5]


def test_arrays_without_rows_are_converted(model: SavedModel) -> None:
    floats, longs = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    outputs = model.run({"longs": longs, "floats": floats, "int": np.array(5, np.int32)}, "add")
    assert outputs["floats"].shape == (0, 3)
    assert outputs["longs"].shape == (0,)


def test_an_error_in_the_graph_leaves_the_model_usable(model: SavedModel) -> None:
    with pytest.raises(CApiError, match="(?i)unknown image file format"):
        model.run({"input": b"not an image"}, "decode")
    image = tf.io.encode_png(tf.zeros([2, 5, 1], tf.uint8)).numpy()
    assert model.run({"input": image}, "decode")["shape"].tolist() == [2, 5, 1]


def test_requests_that_do_not_fit_a_signature_are_errors(model: SavedModel) -> None:
    with pytest.raises(CApiError, match="no signature 'nothing'"):
        model.run({"input": b"a"}, "nothing")
    with pytest.raises(CApiError, match="takes the inputs"):
        model.run({"image": b"a"})
    with pytest.raises(CApiError, match="(?i)string"):
        model.run({"input": np.zeros(1, np.float32)})
    assert model.run({"input": b"a"})["output"].item() == b"A"


@pytest.mark.parametrize("value", ["text", [b"a", "b"], np.array([b"a"]), np.array(1j), 1.5])
def test_values_that_are_not_tensors_are_errors(model: SavedModel, value: object) -> None:
    with pytest.raises(TypeError):
        model.run({"input": value})  # type: ignore[dict-item]


def test_a_directory_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CApiError, match="(?i)could not find"):
        run(tmp_path, {"input": b"a"})


def test_a_killed_process_is_an_error(model_dir: Path) -> None:
    with SavedModel(model_dir) as loaded:
        loaded._process.kill()
        loaded._process.wait()
        with pytest.raises(CApiError, match="status -9"):
            loaded.run({"input": b"a"})
    loaded.close()


def test_a_relative_path_is_accepted(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model_dir.parent)
    outputs = run(model_dir.name, {"input": b"abc"})
    assert outputs["output"].item() == b"ABC"
