"""Models of the original aocr: recognized, and with the predictions of the original."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from aocr.checkpoints import directory, loader
from aocr.cli.main import main
from aocr.config import DIGITS_AND_CAPITALS, PRINTABLE_ASCII, ModelConfig
from aocr.errors import AocrError
from aocr.inference.graph import RecognitionGraph
from aocr.inference.recognizer import Recognizer
from tests import originals, reference, reference_decoding
from tests.drawing import encoded, word
from tests.networks import decode_all
from tests.originals import DECODER, LIMITS, SIZES, OriginalModel

FLAGS = ["--max-width", "40", "--max-height", "32", "--max-prediction", "3"]
STEPS = 5
PORT: dict[str, Any] = {"norm": "batch_normalization", "kernel": "weights", "bias": "biases"}
CASES = {
    "0.7.6": OriginalModel(),
    "port": OriginalModel(**PORT, step=None),
    "TF 1.0": OriginalModel(kernel="weights", bias="biases", slots=True),
    "mixed": OriginalModel(norm="batch_normalization", bias="biases"),
    "one layer": OriginalModel(layers=1, hidden=7, embedding=3),
    "three layers, color": OriginalModel(layers=3, hidden=4, channels=3, **PORT),
    "full ASCII": OriginalModel(characters=95),
    "GRU": OriginalModel(gru=True),
    "GRU, one layer, color": OriginalModel(gru=True, layers=1, hidden=9, channels=3, slots=True),
    "GRU, three layers, port": OriginalModel(gru=True, layers=3, hidden=5, characters=95, **PORT),
}


def alphabet(original: OriginalModel) -> str:
    return PRINTABLE_ASCII if original.characters == 95 else DIGITS_AND_CAPITALS


def drawn(original: OriginalModel) -> list[bytes]:
    """Returns images that are not resized, resized to the height, and resized to the width."""
    return [encoded(word("Ab8", size, "RGB" if original.channels == 3 else "L")) for size in SIZES]


def run(tmp_path: Path, *words: object) -> tuple[int, list[str]]:
    """Runs a command; returns its exit code and the lines that it logged."""
    log = tmp_path / "run.log"
    log.unlink(missing_ok=True)
    code = main([*map(str, words), "--log-path", str(log)])
    return code, log.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of version 0.7.6 with the step counter at 300."""
    return originals.write(tmp_path_factory.mktemp("original") / "plain",
                           originals.variables(OriginalModel(step=300)))


@pytest.mark.parametrize("original", [
    pytest.param(original, id=name, marks=[pytest.mark.slow] * (n % 2))
    for n, (name, original) in enumerate(CASES.items())])
def test_a_checkpoint_gives_the_predictions_of_the_original(original: OriginalModel, tmp_path: Path
                                                            ) -> None:
    values = originals.variables(original)
    originals.write(tmp_path / "original", values)
    loaded = loader.load(str(tmp_path / "original"), LIMITS)
    config, tf1 = loaded.config, original.norm == "BatchNorm"
    assert config == ModelConfig(
        **LIMITS, alphabet=alphabet(original), color=original.channels == 3, use_gru=original.gru,
        attn_num_layers=original.layers, attn_num_hidden=original.hidden,
        target_embedding_size=original.embedding, layout="padded", alpha="drop",
        kernel="bicubic-tf1" if tf1 else "bicubic-tf2")
    files = drawn(original)
    decoded = decode_all(loaded.model, files, config)
    prediction = RecognitionGraph(config, loaded.model).read(tf.constant(files))
    assert prediction.widths.numpy().tolist() == [40] * len(files)
    for n, file in enumerate(files):
        pixels = originals.pixels(file)
        expected = originals.predict(
            original, values, originals.load_image(pixels, 40, tf1), STEPS)
        np.testing.assert_allclose(decoded.logits[n], expected.logits, atol=1e-4)
        np.testing.assert_allclose(decoded.attention[n], expected.attention, atol=5e-5)
        assert prediction.output[n].numpy().decode() == originals.text(
            expected.ids, config.alphabet)
        assert float(prediction.probability[n]) == pytest.approx(
            reference_decoding.probability(expected.logits), rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_mixed_variable_names_give_the_same_model(tmp_path: Path, plain: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    mixed = {}
    for name, value in originals.variables(OriginalModel(step=300)).items():
        for port, original in reference.PORT_NAMES.items():
            name = name.replace(original, port) if random.random() < 0.5 else name
        mixed[name] = value
    originals.write(tmp_path, mixed)
    weights, expected = (reference.collect(loader.load(str(model_dir), LIMITS).model)
                         for model_dir in (tmp_path, plain))
    for name, value in expected.items():
        np.testing.assert_array_equal(weights[name], value, name)


@pytest.mark.parametrize("name", ["state", "missing files", "other machine", "Windows", "no state",
                                  "empty state", "garbage state", "two checkpoints"])
def test_the_checkpoint_is_found_whatever_the_state_file_names(
        plain: Path, tmp_path: Path, name: str) -> None:
    model_dir = tmp_path / "original"
    shutil.copytree(plain, model_dir)
    state = model_dir / "checkpoint"
    line = 'model_checkpoint_path: "{}"\n'
    if name == "no state":
        state.unlink()
    elif name == "two checkpoints":
        for path in sorted(model_dir.glob("model.ckpt-7.*")):
            shutil.copy(path, model_dir / path.name.replace("-7", "-12"))
    else:
        state.write_bytes({
            "state": state.read_bytes(),
            "missing files": line.format("model.ckpt-900").encode(),
            "other machine": line.format("/home/me/checkpoints/model.ckpt-7").encode(),
            "Windows": line.format(r"C:\\Users\\me\\checkpoints\\model.ckpt-7").encode(),
            "empty state": b"", "garbage state": b"\x80{{"}[name])
    assert directory.candidates(str(model_dir))[0] == str(model_dir / "model.ckpt-7")
    assert loader.is_legacy(str(model_dir))


def test_without_a_state_file_the_highest_number_is_the_newest(plain: Path, tmp_path: Path
                                                               ) -> None:
    shutil.copytree(plain, tmp_path / "original")
    for path in sorted(plain.glob("model.ckpt-7.*")):
        shutil.copy(path, tmp_path / "original" / path.name.replace("-7", "-12"))
    (tmp_path / "original" / "checkpoint").unlink()
    newest = directory.candidates(str(tmp_path / "original"))[0]
    assert newest == str(tmp_path / "original" / "model.ckpt-12")


@pytest.mark.parametrize(("given", "expected"), [
    ({"attn_num_hidden": 64}, ("--attn-num-hidden 64", "basic_lstm_cell/kernel", "[12, 24]",
                               "give --attn-num-hidden 6")),
    ({"attn_num_layers": 1}, ("--attn-num-layers 1", f"{DECODER}/AttnW_0", "[1, 1, 24, 24]",
                              "give --attn-num-layers 2")),
    ({"target_embedding_size": 10}, ("--target-embedding-size 10", "/embedding", "[39, 4]",
                                     "give --target-embedding-size 4")),
    ({"use_gru": True}, ("--use-gru", "basic_lstm_cell/kernel", "[12, 24]",
                         "leave out --use-gru")),
    ({"color": True}, ("--color", "conv_conv1/W", "[3, 3, 1, 64]", "leave out --color")),
    ({"alphabet": PRINTABLE_ASCII}, ("95 characters", "/embedding", "[39, 4]",
                                     "leave out --full-ascii")),
])
def test_a_contradicting_flag_is_an_error_that_names_variable_shape_and_remedy(
        plain: Path, given: dict[str, object], expected: tuple[str, ...]) -> None:
    with pytest.raises(AocrError) as caught:
        loader.load(str(plain), given)
    assert "\n" not in str(caught.value)
    for part in (*expected, str(plain / "model.ckpt-7")):
        assert part in str(caught.value)


@pytest.mark.parametrize(("given", "expected"), [
    ({"use_gru": False}, ("no --use-gru", "gru_cell/gates/kernel", "[10, 10]", "give --use-gru")),
    ({"color": False}, ("no --color", "conv_conv1/W", "[3, 3, 3, 64]", "give --color")),
    ({"alphabet": DIGITS_AND_CAPITALS}, ("36 characters", "[98, 4]", "95", "give --full-ascii")),
])
def test_settings_cannot_disable_what_a_checkpoint_has(
        tmp_path: Path, given: dict[str, object], expected: tuple[str, ...]) -> None:
    original = OriginalModel(gru=True, channels=3, characters=95, hidden=5)
    originals.write(tmp_path, originals.variables(original))
    with pytest.raises(AocrError) as caught:
        loader.load(str(tmp_path), given)
    for part in expected:
        assert part in str(caught.value)


def test_an_alphabet_of_another_size_has_to_be_given(tmp_path: Path) -> None:
    originals.write(tmp_path, originals.variables(OriginalModel(characters=5)))
    with pytest.raises(AocrError, match=r"5 characters; the original.s own alphabets have 36"):
        loader.load(str(tmp_path), LIMITS)
    assert loader.load(str(tmp_path), {"alphabet": "vwxyz"}).config.alphabet == "vwxyz"


def test_the_resize_kernel_can_be_given(plain: Path) -> None:
    config = loader.load(str(plain), {"kernel": "bicubic-tf2"}).config
    assert (config.kernel, config.layout, config.alpha) == ("bicubic-tf2", "padded", "drop")


@pytest.mark.parametrize("missing", [
    "conv_conv1/W", "conv_conv5/BatchNorm/moving_mean", "embedding_attention_decoder/embedding",
    "bidirectional_rnn/bw/basic_lstm_cell/bias", f"{DECODER}/AttnW_0",
    f"{DECODER}/multi_rnn_cell/cell_0/basic_lstm_cell/kernel", f"{DECODER}/Attention_0/kernel"])
def test_a_missing_variable_is_named(tmp_path: Path, missing: str) -> None:
    values = originals.variables(OriginalModel())
    del values[missing]
    originals.write(tmp_path, values)
    with pytest.raises(AocrError, match=f"no variable {missing}$"):
        loader.load(str(tmp_path), LIMITS)


def test_a_variable_of_another_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    values = originals.variables(OriginalModel())
    values[f"{DECODER}/AttnOutputProjection/bias"] = np.zeros(40, np.float32)
    originals.write(tmp_path, values)
    with pytest.raises(AocrError, match=r"AttnOutputProjection/bias has shape \[40\], expected "
                                        r"\[39\]"):
        loader.load(str(tmp_path), LIMITS)


def test_a_checkpoint_of_another_program_is_refused(tmp_path: Path) -> None:
    originals.write(tmp_path, {"dense/kernel": np.zeros([2, 3], np.float32)})
    with pytest.raises(AocrError, match=r"is not a model of the original aocr.*config\.json"):
        loader.load(str(tmp_path), LIMITS)
    with pytest.raises(AocrError, match="name another --model-dir"):
        loader.check_trainable(str(tmp_path), resume=True)


@pytest.mark.parametrize("file", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("length", [0, 200, -1])
def test_damaged_files_are_a_one_line_error(plain: Path, tmp_path: Path, file: str, length: int
                                        ) -> None:
    shutil.copytree(plain, tmp_path / "original")
    path = tmp_path / "original" / f"model.ckpt-7.{file}"
    if length < 0:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:length])
    code, logged = run(tmp_path, "predict", "x.png", "--model-dir", tmp_path / "original", *FLAGS)
    assert code == 1
    assert "ERROR" in logged[-1]
    assert str(tmp_path / "original") in logged[-1]
    before = originals.hashes(tmp_path / "original")
    code, logged = run(tmp_path, "train", "x.tfrecords", "--no-resume", "--model-dir",
                       tmp_path / "original")
    assert (code, originals.hashes(tmp_path / "original")) == (1, before)
    assert "dataset" not in logged[-1]


@pytest.mark.parametrize("more", [[], ["--no-resume"], ["--init-from", "OLD"]])
@pytest.mark.parametrize("state", ["checkpoint", None])
def test_training_in_the_directory_of_the_original_is_refused(
        plain: Path, tmp_path: Path, more: list[str], state: str | None) -> None:
    model_dir = tmp_path / "original"
    shutil.copytree(plain, model_dir)
    if state is None:
        (model_dir / "checkpoint").unlink()
    before = originals.hashes(model_dir)
    more = [str(model_dir) if word == "OLD" else word for word in more]
    code, logged = run(tmp_path, "train", "x.tfrecords", "--model-dir", model_dir, *more)
    assert code == 1
    assert f"--model-dir NEW --init-from {model_dir}" in logged[-1]
    assert originals.hashes(model_dir) == before


@pytest.mark.slow
def test_test_and_predict_recognize_an_original_and_do_not_write_to_it(plain: Path, tmp_path: Path
                                                                 ) -> None:
    before = originals.hashes(plain)
    files = []
    for n, content in enumerate(drawn(OriginalModel())):
        files.append(tmp_path / f"{n}.png")
        files[-1].write_bytes(content)
    lines = [f"{path} AB8" for path in files[:3]]
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    assert run(tmp_path, "dataset", tmp_path / "a.txt", tmp_path / "a.tfrecords")[0] == 0
    description = "is a model of the original aocr (version 0.7.6, step 300)"
    given = ["--model-dir", plain, *FLAGS, "--attn-num-hidden", 6, "--attn-num-layers", 2,
             "--target-embedding-size", 4]
    wide = [60 if word == "40" else word for word in given]
    for words in (["test", tmp_path / "a.tfrecords", "--json", tmp_path / "r.json", *wide],
                  ["predict", *files, *given]):
        code, logged = run(tmp_path, *words)
        assert code == 0, logged
        assert sum(description in line for line in logged) == 1
    summary = json.loads((tmp_path / "r.json").read_text())["summary"]
    assert (summary["images"], summary["skipped"]) == (3, 0)
    assert originals.hashes(plain) == before


@pytest.mark.slow
def test_the_flags_of_the_original_are_accepted(tmp_path: Path) -> None:
    original = OriginalModel(layers=1, hidden=5, embedding=3, characters=95, channels=3, gru=True,
                             step=None)
    values = originals.variables(original)
    originals.write(tmp_path / "original", values)
    file = drawn(original)[2]
    (tmp_path / "a.png").write_bytes(file)
    code, logged = run(
        tmp_path, "predict", tmp_path / "a.png", "--model-dir", tmp_path / "original", *FLAGS,
        "--attn-num-layers", 1, "--attn-num-hidden", 5, "--target-embedding-size", 3,
        "--full-ascii", "--color", "--use-gru")
    assert code == 0, logged
    expected = originals.predict(
        original, values, originals.load_image(originals.pixels(file), 40, True), STEPS)
    assert logged[-1].endswith(f"Result: OK. {reference_decoding.probability(expected.logits):.2f} "
                               + originals.text(expected.ids, PRINTABLE_ASCII))
    assert sum("(version 0.7.6, no step counter)" in line for line in logged) == 1


@pytest.mark.slow
def test_an_export_gives_the_predictions_of_the_checkpoint(plain: Path, tmp_path: Path) -> None:
    before = originals.hashes(plain)
    code, logged = run(tmp_path, "export", tmp_path / "out", "--model-dir", plain, *FLAGS)
    assert code == 0, logged
    assert sum("is a model of the original aocr" in line for line in logged) == 1
    restored, exported = Recognizer.load(plain, **LIMITS), Recognizer.load(tmp_path / "out")
    assert exported.config == restored.config
    files = drawn(OriginalModel())
    expected, results = restored.predict(files), exported.predict(files)
    assert isinstance(expected, list)
    assert isinstance(results, list)
    for result, checkpoint_result in zip(results, expected, strict=True):
        assert result.text == checkpoint_result.text
        assert result.probability == pytest.approx(checkpoint_result.probability, abs=1e-5)
    assert originals.hashes(plain) == before


def test_an_export_into_the_directory_of_the_original_is_refused(plain: Path, tmp_path: Path
                                                                 ) -> None:
    before = originals.hashes(plain)
    for target in (plain, plain / "exported", f"{plain}/../{plain.name}"):
        code, logged = run(tmp_path, "export", target, "--model-dir", plain, *FLAGS)
        assert code == 1
        assert "never written to" in logged[-1]
    assert originals.hashes(plain) == before
