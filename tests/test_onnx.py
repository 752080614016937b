"""ONNX models give the results of the checkpoint, and run without TensorFlow."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import aocr
from aocr.checkpoints import config_file
from aocr.checkpoints.choice import CheckpointChoice
from aocr.config import MAX_PIXELS, ModelConfig
from aocr.errors import AocrError, SkipError
from aocr.images import numpy_preprocessing
from aocr.inference import export, export_formats, onnx_model
from aocr.inference.graph import RecognitionGraph
from aocr.inference.quantization_samples import Samples
from aocr.inference.recognizer import Recognizer, Result
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.model import AttentionOCR
from aocr.tokenizer import Tokenizer
from tests.conftest import WORDS, Command, World, draw, messages

for package in ("onnxruntime", "onnx", "tf2onnx"):
    pytest.importorskip(package, reason=f"{package} is missing: pip install 'aocr[onnx]'")

SIZES = ((1, 1), (20, 60), (32, 33), (45, 301), (120, 40), (32, 85))


def noise_images(channels: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    shape = () if channels == 1 else (3,)
    return [Image.fromarray(random.integers(0, 256, (*size, *shape), np.uint8)) for size in SIZES]


def assert_same(actual: list[Result] | Result, expected: list[Result] | Result) -> None:
    """Asserts equal texts, and probabilities and attention that differ by at most 1e-4."""
    assert isinstance(actual, list)
    assert isinstance(expected, list)
    for result, other in zip(actual, expected, strict=True):
        assert (result.text, result.width) == (other.text, other.width)
        assert result.probability == pytest.approx(other.probability, abs=1e-4)
        assert [character for character, _ in result.characters] == list(result.text)
        np.testing.assert_allclose([probability for _, probability in result.characters],
                                   [probability for _, probability in other.characters], atol=1e-4)
        assert result.attention is not None
        assert other.attention is not None
        np.testing.assert_allclose(result.attention, other.attention, atol=1e-4)


@pytest.fixture(scope="module")
def model(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file."""
    directory = tmp_path_factory.mktemp("onnx")
    export.export(CheckpointRecognizer.load(world.model_dir), str(directory), "onnx")
    return directory / "model.onnx"


def test_an_onnx_model_gives_the_results_of_the_checkpoint(world: World, model: Path) -> None:
    expected = CheckpointRecognizer.load(world.model_dir)
    actual = aocr.Recognizer.load(model)
    assert actual.source == str(model)
    for images in (world.images, noise_images(1), world.images[1:2]):
        assert_same(actual.predict(images, attention=True),
                    expected.predict(images, attention=True))
    assert [actual.predict(world.images[0])] == actual.predict(world.images[:1])


@pytest.mark.slow
def test_networks_of_other_sizes_are_exported(tmp_path: Path) -> None:
    config = ModelConfig(max_width=200, max_height=40, color=True, use_gru=True,
                         attn_num_layers=1, attn_num_hidden=16, alphabet="ABCDEFG")
    recognizer = CheckpointRecognizer("", RecognitionGraph(config, AttentionOCR(config)))
    export.export(recognizer, str(tmp_path / "out"), "onnx")
    images = noise_images(3)
    assert_same(Recognizer.load(tmp_path / "out").predict(images, attention=True),
                recognizer.predict(images, attention=True))


def test_the_file_states_settings_inputs_and_outputs(world: World, model: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(model)
    assert {value.name: (value.type, value.shape) for value in session.get_inputs()} == {
        "images": ("tensor(float)", ["batch", 32, "width", 1]),
        "widths": ("tensor(int32)", ["batch"])}
    assert {value.name: (value.type, value.shape) for value in session.get_outputs()} == {
        "ids": ("tensor(int32)", ["batch", "steps"]),
        "probability": ("tensor(float)", ["batch"]),
        "character_probabilities": ("tensor(float)", ["batch", "steps"]),
        "attention": ("tensor(float)", ["batch", "steps", "columns"])}
    text = session.get_modelmeta().custom_metadata_map["config.json"]
    assert config_file.from_text("metadata", text) == config_file.load(str(world.model_dir))
    assert json.loads(text)["serving_images"] == {"height": 32, "max_width": 86, "channels": 1}


def test_tensorflow_is_not_imported(world: World, model: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(world.images[0].read_bytes())
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-c",
         "import sys; from aocr.cli.main import main; sys.exit(main(sys.argv[1:]))", "predict",
         "images", "missing.png", "--model-dir", str(model), "--format", "tsv"], cwd=tmp_path,
        capture_output=True, text=True, env=environment, check=False)
    expected = CheckpointRecognizer.load(world.model_dir).predict(world.images[0])
    assert isinstance(expected, Result)
    path, probability, text = process.stdout.rstrip("\n").split("\t")
    assert (path, text) == ("images/a.png", expected.text)
    assert float(probability) == pytest.approx(expected.probability, abs=1e-4)
    assert "missing.png. cannot open the file: No such file or directory" in process.stderr
    assert process.returncode == 1
    assert "onnxruntime" in process.stderr
    assert "tensorflow" not in process.stderr


def test_predict_reads_with_the_file_or_its_directory(world: World, model: Path, command: Command
                                                      ) -> None:
    for model_dir in (model, model.parent):
        code, logged = command("predict", world.images[0], "--model-dir", model_dir)
        assert code == 0
        assert messages(logged)[0] == f"Reading model parameters from {model}"


def test_a_model_directory_takes_precedence_over_an_onnx_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    assert onnx_model.find(str(tmp_path)) == str(tmp_path / "model.onnx")
    (tmp_path / "config.json").write_text("{}")
    assert onnx_model.find(str(tmp_path)) is None


def test_the_newest_version_that_holds_a_model_is_found(tmp_path: Path) -> None:
    for version in ("1", "3", "20", "latest"):
        (tmp_path / version).mkdir()
    for version in ("1", "3", "latest"):
        (tmp_path / version / "model.onnx").write_bytes(b"")
    assert onnx_model.find(str(tmp_path)) == str(tmp_path / "3" / "model.onnx")
    (tmp_path / "20" / "saved_model.pb").write_bytes(b"")
    assert onnx_model.find(str(tmp_path)) is None


def test_an_undecodable_image_does_not_affect_the_others(world: World, model: Path) -> None:
    recognizer = Recognizer.load(model)
    cut = world.images[0].read_bytes()[:100]
    results = recognizer.predict_each([world.images[0], cut, b"text", world.images[2]])
    assert [type(result) for result in results] == [Result, SkipError, SkipError, Result]
    assert recognizer.predict([]) == []
    with pytest.raises(AocrError, match="image too large"):
        Recognizer.load(model, max_pixels=100).predict(world.images[0])


def test_a_quantized_model_is_compared_with_the_limit_of_pixels_of_the_export(
        world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []
    recognizer = CheckpointRecognizer.load(world.model_dir, max_pixels=12345)

    def load(_: str, max_pixels: int) -> Recognizer:
        limits.append(max_pixels)
        return recognizer

    def write(_model: object, directory: str, _samples: object) -> None:
        Path(directory, "model.onnx").touch()

    monkeypatch.setattr(export, "INT8_FORMATS", {"onnx": export_formats.Int8Format(write, load)})
    samples = Samples([world.images[0].read_bytes(), b"text"], ["A", "B"])
    _, comparison = export.export_int8(recognizer, str(tmp_path / "out"), "onnx", samples)
    assert limits == [12345]
    assert (comparison.images, comparison.equal) == (2, 2)


def test_a_remote_model_is_read(world: World, model: Path, command: Command) -> None:
    directory = f"ram://onnx-{os.getpid()}"
    tf.io.gfile.makedirs(f"{directory}/1")
    with tf.io.gfile.GFile(f"{directory}/1/model.onnx", "wb") as file:
        file.write(model.read_bytes())
    for model_dir in (directory, f"{directory}/1/model.onnx"):
        code, logged = command("predict", world.images[0], "--model-dir", model_dir)
        assert code == 0
        assert messages(logged)[0] == f"Reading model parameters from {directory}/1/model.onnx"
    with pytest.raises(AocrError, match="cannot read ram://onnx-none.onnx"):
        Recognizer.load("ram://onnx-none.onnx")


def test_a_gpu_that_an_onnx_model_does_not_use_is_reported(world: World, model: Path,
                                                           command: Command) -> None:
    for gpu, warnings in ((0, 1), (-1, 0)):
        code, logged = command("predict", world.images[0], "--model-dir", model, "--gpu-id", gpu)
        assert code == 0
        assert logged.count("which runs on the CPU: --gpu-id has no effect") == warnings


def test_options_of_checkpoints_are_refused(model: Path) -> None:
    with pytest.raises(AocrError, match="leave out --precision mixed_bfloat16"):
        Recognizer.load(model, precision="mixed_bfloat16")
    with pytest.raises(AocrError, match="leave them out"):
        Recognizer.load(model, CheckpointChoice("best"))
    with pytest.raises(AocrError, match="--max-width 10 contradicts"):
        Recognizer.load(model, max_width=10)


def test_files_that_are_no_exported_model_are_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    with pytest.raises(AocrError, match="not a file on this machine"):
        Recognizer.load(tmp_path / "missing.onnx")
    (tmp_path / "damaged.onnx").write_bytes(b"damaged")
    with pytest.raises(AocrError, match="is not a model that ONNX Runtime"):
        Recognizer.load(tmp_path / "damaged.onnx")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", values[:1],
                              values[1:])
    other = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "other.onnx").write_bytes(other.SerializeToString())
    with pytest.raises(AocrError, match="is not a model that `aocr export"):
        Recognizer.load(tmp_path / "other.onnx")


def test_a_quantized_model_is_small_and_reads_the_same(world: World, model: Path, command: Command,
                                                       tmp_path: Path) -> None:
    from onnx import load

    code, logged = command("export", tmp_path / "out", "--format", "onnx", "--quantize", "int8",
                           "--calibrate", world.records)
    assert code == 0
    assert re.fullmatch(r"Exported to .*, in int8: \d+\.\d MB, word accuracy 0\.0000 instead of "
                        r"0\.0000, the same text for \d of 8 images\.", messages(logged)[-1])
    quantized = tmp_path / "out" / "model.onnx"
    assert quantized.stat().st_size < 0.3 * model.stat().st_size
    graph = load(quantized).graph
    assert {node.op_type for node in graph.node} >= {"DynamicQuantizeLSTM", "MatMulInteger"}
    origins = {output: node.op_type for node in graph.node for output in node.output}
    assert [origins.get(node.input[1]) for node in graph.node if node.op_type == "Conv"] == [
        None, None, None, *["DequantizeLinear"] * 4]
    expected = Recognizer.load(model).predict(world.images)
    actual = Recognizer.load(quantized).predict(world.images)
    assert isinstance(actual, list)
    assert isinstance(expected, list)
    np.testing.assert_allclose([result.probability for result in actual],
                               [result.probability for result in expected], atol=0.05)


@pytest.mark.parametrize(("flags", "message"), [
    (("--format", "onnx", "--quantize", "int8"), "--quantize and --calibrate need each other"),
    (("--calibrate", "x.tfrecords"), "--quantize and --calibrate need each other"),
    (("--quantize", "int8", "--calibrate", "x.tfrecords"), "onnx or tflite, not savedmodel"),
    (("--format", "onnx", "--quantize", "int8", "--calibrate", "x.tfrecords"), "no such dataset")])
def test_flags_that_do_not_fit_quantization_are_refused(
        command: Command, tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    code, logged = command("export", tmp_path / "out", *flags)
    assert code == 1
    assert message in logged
    assert not (tmp_path / "out").exists()


def test_openvino_gives_the_same_results(world: World, model: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is missing")
    recognizer = Recognizer.load(model)
    network = openvino.Core().compile_model(str(model), "CPU",
                                            {"INFERENCE_PRECISION_HINT": "f32"})
    for path in world.images[:4]:
        image = numpy_preprocessing.preprocess(path.read_bytes(), recognizer.config, MAX_PIXELS)
        images, widths = numpy_preprocessing.pad_batch([image])
        outputs = network({"images": images, "widths": widths})
        expected = recognizer.predict(path)
        assert isinstance(expected, Result)
        characters = Tokenizer(recognizer.config.alphabet).characters(outputs["ids"][0].tolist())
        assert "".join(character for _, character in characters) == expected.text
        assert outputs["probability"][0] == pytest.approx(expected.probability, abs=1e-4)


def test_the_program_in_the_readme_gives_the_same_texts(world: World, model: Path, tmp_path: Path
                                                        ) -> None:
    node = shutil.which("node")
    resolve = "for (const name of ['onnxruntime-web', 'pngjs']) require.resolve(name)"
    if node is None or subprocess.run([node, "-e", resolve], capture_output=True,
                                      check=False).returncode:
        pytest.skip("node, onnxruntime-web or pngjs is missing")
    readme = (Path(aocr.__file__).parent / "inference" / "README.md").read_text("utf-8")
    program = re.search(r"<!-- onnxruntime-web -->\n```js\n(.*?)```", readme, re.S)
    assert program is not None
    (tmp_path / "main.js").write_text(program[1])
    files = [path for path in world.images if path.suffix == ".png"]
    for n, size in enumerate(SIZES[1:]):
        files.append(tmp_path / f"{n}.png")
        draw(WORDS[n], files[-1], size[::-1])
    process = subprocess.run([node, tmp_path / "main.js", model.parent, *files],
                             capture_output=True, text=True, check=True)
    for line, result in zip(process.stdout.splitlines(),
                            Recognizer.load(model).predict_each(files), strict=True):
        assert isinstance(result, Result)
        _, probability, text = line.split("\t")
        assert text == result.text
        assert float(probability) == pytest.approx(result.probability, abs=1e-3)


def test_missing_packages_are_named(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                    ) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AocrError, match="needs tf2onnx, onnx, onnxruntime"):
        export.export(CheckpointRecognizer.load(world.model_dir), str(tmp_path / "out"), "onnx")
    assert not (tmp_path / "out").exists()
