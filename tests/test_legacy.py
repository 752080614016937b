"""Models of the original: recognised, and read as the original read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from aocr.checkpoints import directory, loader
from aocr.checkpoints.loader import CheckpointChoice
from aocr.cli.main import main
from aocr.config import DIGITS_AND_CAPITALS, PRINTABLE_ASCII, ModelConfig
from aocr.errors import AocrError
from aocr.images import preprocessing
from aocr.inference.graph import RecognitionGraph
from aocr.inference.recognizer import CheckpointRecognizer, Recognizer
from aocr.model import AttentionOCR, Decoded
from tests import originals, reference
from tests.drawing import encoded, word
from tests.originals import DECODER, Old

GOLDEN = Path(__file__).parents[2] / "shared" / "original"
DATA = GOLDEN.parent / "data"
LIMITS: dict[str, Any] = {"max_width": 40, "max_height": 32, "max_prediction": 3}
FLAGS = ["--max-width", "40", "--max-height", "32", "--max-prediction", "3"]
STEPS = 5
SIZES = ((30, 20), (40, 32), (33, 51), (90, 40), (200, 30))
PORT: dict[str, Any] = {"norm": "batch_normalization", "kernel": "weights", "bias": "biases"}
CASES = {
    "0.7.6": Old(),
    "port": Old(**PORT, step=None),
    "TF 1.0": Old(kernel="weights", bias="biases", slots=True),
    "mixed": Old(norm="batch_normalization", bias="biases"),
    "one layer": Old(layers=1, hidden=7, embedding=3),
    "three layers, color": Old(layers=3, hidden=4, channels=3, **PORT),
    "full ASCII": Old(characters=95),
    "GRU": Old(gru=True),
    "GRU, one layer, color": Old(gru=True, layers=1, hidden=9, channels=3, slots=True),
    "GRU, three layers, port": Old(gru=True, layers=3, hidden=5, characters=95, **PORT),
}


def alphabet(old: Old) -> str:
    return PRINTABLE_ASCII if old.characters == 95 else DIGITS_AND_CAPITALS


def drawn(old: Old) -> list[bytes]:
    """Images that are left alone, shrunk to the height, and shrunk to the width."""
    return [encoded(word("Ab8", size, "RGB" if old.channels == 3 else "L")) for size in SIZES]


def decode_all(model: AttentionOCR, files: list[bytes], config: ModelConfig) -> Decoded:
    """A decoding of all steps, as the original's."""
    images, widths = preprocessing.preprocess_batch(tf.constant(files), config)
    return model.greedy(model.encode(images, widths), until_eos=False)


def run(tmp_path: Path, *words: object) -> tuple[int, list[str]]:
    """A command's exit code and what it logged."""
    log = tmp_path / "run.log"
    log.unlink(missing_ok=True)
    code = main([*map(str, words), "--log-path", str(log)])
    return code, log.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of 0.7.6 with the counter at 300."""
    return originals.write(tmp_path_factory.mktemp("original") / "plain",
                           originals.variables(Old(step=300)))


@pytest.mark.parametrize("old", [
    pytest.param(old, id=name, marks=[pytest.mark.slow] * (n % 2))
    for n, (name, old) in enumerate(CASES.items())])
def test_a_checkpoint_answers_as_the_original_would(old: Old, tmp_path: Path) -> None:
    values = originals.variables(old)
    originals.write(tmp_path / "old", values)
    loaded = loader.load(str(tmp_path / "old"), LIMITS)
    config, tf1 = loaded.config, old.norm == "BatchNorm"
    assert config == ModelConfig(
        **LIMITS, alphabet=alphabet(old), color=old.channels == 3, use_gru=old.gru,
        attn_num_layers=old.layers, attn_num_hidden=old.hidden, layout="padded",
        target_embedding_size=old.embedding, kernel="bicubic-tf1" if tf1 else "bicubic-tf2")
    files = drawn(old)
    decoded = decode_all(loaded.model, files, config)
    read = RecognitionGraph(config, loaded.model).read(tf.constant(files))
    assert read.widths.numpy().tolist() == [40] * len(files)
    for n, file in enumerate(files):
        pixels = originals.pixels(file)
        truth = originals.answer(old, values, originals.load_image(pixels, 40, tf1), STEPS)
        np.testing.assert_allclose(decoded.logits[n], truth.logits, atol=1e-4)
        np.testing.assert_allclose(decoded.attention[n], truth.attention, atol=5e-5)
        assert read.output[n].numpy().decode() == originals.text(truth.ids, config.alphabet)
        assert float(read.probability[n]) == pytest.approx(
            reference.probability(truth.logits), rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_any_mixture_of_names_is_the_same_model(tmp_path: Path, plain: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    mixed = {}
    for name, value in originals.variables(Old(step=300)).items():
        for port, old in reference.PORT_WORDS.items():
            name = name.replace(old, port) if random.random() < 0.5 else name
        mixed[name] = value
    originals.write(tmp_path, mixed)
    ours, truth = (reference.collect(loader.load(str(folder), LIMITS).model)
                   for folder in (tmp_path, plain))
    for name, value in truth.items():
        np.testing.assert_array_equal(ours[name], value, name)


@pytest.mark.parametrize("name", ["state", "lost state", "other machine", "Windows", "no state",
                                  "empty state", "garbage state", "two checkpoints"])
def test_the_checkpoint_is_found_wherever_the_state_file_says_it_is(
        plain: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "old"
    shutil.copytree(plain, folder)
    state = folder / "checkpoint"
    line = 'model_checkpoint_path: "{}"\n'
    if name == "no state":
        state.unlink()
    elif name == "two checkpoints":
        for path in sorted(folder.glob("model.ckpt-7.*")):
            shutil.copy(path, folder / path.name.replace("-7", "-12"))
    else:
        state.write_bytes({
            "state": state.read_bytes(),
            "lost state": line.format("model.ckpt-900").encode(),
            "other machine": line.format("/home/me/checkpoints/model.ckpt-7").encode(),
            "Windows": line.format(r"C:\\Users\\me\\checkpoints\\model.ckpt-7").encode(),
            "empty state": b"", "garbage state": b"\x80{{"}[name])
    assert directory.candidates(str(folder))[0] == str(folder / "model.ckpt-7")
    assert loader.is_original(str(folder))


def test_without_a_state_file_the_highest_number_is_the_newest(plain: Path, tmp_path: Path
                                                               ) -> None:
    shutil.copytree(plain, tmp_path / "old")
    for path in sorted(plain.glob("model.ckpt-7.*")):
        shutil.copy(path, tmp_path / "old" / path.name.replace("-7", "-12"))
    (tmp_path / "old" / "checkpoint").unlink()
    newest = directory.candidates(str(tmp_path / "old"))[0]
    assert newest == str(tmp_path / "old" / "model.ckpt-12")


@pytest.mark.parametrize(("named", "told"), [
    ({"attn_num_hidden": 64}, ("--attn-num-hidden 64", "basic_lstm_cell/kernel", "[12, 24]",
                               "--attn-num-hidden 6 would")),
    ({"attn_num_layers": 1}, ("--attn-num-layers 1", f"{DECODER}/AttnW_0", "[1, 1, 24, 24]",
                              "--attn-num-layers 2 would")),
    ({"target_embedding_size": 10}, ("--target-embedding-size 10", "/embedding", "[39, 4]",
                                     "--target-embedding-size 4 would")),
    ({"use_gru": True}, ("--use-gru", "basic_lstm_cell/kernel", "[12, 24]",
                         "leave out --use-gru")),
    ({"color": True}, ("--color", "conv_conv1/W", "[3, 3, 1, 64]", "leave out --color")),
    ({"alphabet": PRINTABLE_ASCII}, ("95 characters", "/embedding", "[39, 4]",
                                     "leave out --full-ascii")),
])
def test_a_flag_that_does_not_fit_is_told_with_variable_shape_and_remedy(
        plain: Path, named: dict[str, object], told: tuple[str, ...]) -> None:
    with pytest.raises(AocrError) as caught:
        loader.load(str(plain), named)
    assert "\n" not in str(caught.value)
    for part in (*told, str(plain / "model.ckpt-7")):
        assert part in str(caught.value)


@pytest.mark.parametrize(("named", "told"), [
    ({"use_gru": False}, ("no --use-gru", "gru_cell/gates/kernel", "[10, 10]", "give --use-gru")),
    ({"color": False}, ("no --color", "conv_conv1/W", "[3, 3, 3, 64]", "give --color")),
    ({"alphabet": DIGITS_AND_CAPITALS}, ("36 characters", "[98, 4]", "95", "give --full-ascii")),
])
def test_what_a_checkpoint_has_cannot_be_taken_away(
        tmp_path: Path, named: dict[str, object], told: tuple[str, ...]) -> None:
    old = Old(gru=True, channels=3, characters=95, hidden=5)
    originals.write(tmp_path, originals.variables(old))
    with pytest.raises(AocrError) as caught:
        loader.load(str(tmp_path), named)
    for part in told:
        assert part in str(caught.value)


def test_an_alphabet_that_only_the_caller_knows_can_be_given(tmp_path: Path) -> None:
    originals.write(tmp_path, originals.variables(Old(characters=5)))
    with pytest.raises(AocrError, match=r"5 characters; the original.s own alphabets have 36"):
        loader.load(str(tmp_path), LIMITS)
    assert loader.load(str(tmp_path), {"alphabet": "vwxyz"}).config.alphabet == "vwxyz"


def test_the_kernel_can_be_given_where_the_names_mislead(plain: Path) -> None:
    found = loader.load(str(plain), {"kernel": "bicubic-tf2"}).config
    assert (found.kernel, found.layout) == ("bicubic-tf2", "padded")


@pytest.mark.parametrize("lost", [
    "conv_conv1/W", "conv_conv5/BatchNorm/moving_mean", "embedding_attention_decoder/embedding",
    "bidirectional_rnn/bw/basic_lstm_cell/bias", f"{DECODER}/AttnW_0",
    f"{DECODER}/multi_rnn_cell/cell_0/basic_lstm_cell/kernel", f"{DECODER}/Attention_0/kernel"])
def test_a_lost_variable_is_named(tmp_path: Path, lost: str) -> None:
    values = originals.variables(Old())
    del values[lost]
    originals.write(tmp_path, values)
    with pytest.raises(AocrError, match=f"no variable {lost}$"):
        loader.load(str(tmp_path), LIMITS)


def test_a_variable_of_another_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    values = originals.variables(Old())
    values[f"{DECODER}/AttnOutputProjection/bias"] = np.zeros(40, np.float32)
    originals.write(tmp_path, values)
    with pytest.raises(AocrError, match=r"AttnOutputProjection/bias has shape \[40\], expected "
                                        r"\[39\]"):
        loader.load(str(tmp_path), LIMITS)


def test_a_checkpoint_of_another_program_is_refused(tmp_path: Path) -> None:
    originals.write(tmp_path, {"dense/kernel": np.zeros([2, 3], np.float32)})
    with pytest.raises(AocrError, match=r"is no model of the original aocr.*config\.json"):
        loader.load(str(tmp_path), LIMITS)
    with pytest.raises(AocrError, match="name another --model-dir"):
        loader.check_trainable(str(tmp_path), resume=True)


@pytest.mark.parametrize("file", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("length", [0, 200, -1])
def test_damaged_files_are_one_sentence(plain: Path, tmp_path: Path, file: str, length: int
                                        ) -> None:
    shutil.copytree(plain, tmp_path / "old")
    path = tmp_path / "old" / f"model.ckpt-7.{file}"
    if length < 0:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:length])
    code, logged = run(tmp_path, "predict", "x.png", "--model-dir", tmp_path / "old", *FLAGS)
    assert code == 1
    assert "ERROR" in logged[-1]
    assert str(tmp_path / "old") in logged[-1]
    before = originals.hashes(tmp_path / "old")
    code, logged = run(tmp_path, "train", "x.tfrecords", "--no-resume", "--model-dir",
                       tmp_path / "old")
    assert (code, originals.hashes(tmp_path / "old")) == (1, before)
    assert "dataset" not in logged[-1]


@pytest.mark.parametrize("more", [[], ["--no-resume"], ["--init-from", "OLD"]])
@pytest.mark.parametrize("state", ["checkpoint", None])
def test_training_in_the_folder_of_an_original_is_refused(
        plain: Path, tmp_path: Path, more: list[str], state: str | None) -> None:
    folder = tmp_path / "old"
    shutil.copytree(plain, folder)
    if state is None:
        (folder / "checkpoint").unlink()
    before = originals.hashes(folder)
    more = [str(folder) if each == "OLD" else each for each in more]
    code, logged = run(tmp_path, "train", "x.tfrecords", "--model-dir", folder, *more)
    assert code == 1
    assert f"--model-dir NEW --init-from {folder}" in logged[-1]
    assert originals.hashes(folder) == before


@pytest.mark.slow
def test_the_commands_read_an_original_say_so_and_leave_it_alone(plain: Path, tmp_path: Path
                                                                 ) -> None:
    before = originals.hashes(plain)
    files = []
    for n, content in enumerate(drawn(Old())):
        files.append(tmp_path / f"{n}.png")
        files[-1].write_bytes(content)
    lines = [f"{path} AB8" for path in files[:3]]
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    assert run(tmp_path, "dataset", tmp_path / "a.txt", tmp_path / "a.tfrecords")[0] == 0
    told = "is a model of the original aocr (version 0.7.6, step 300)"
    given = ["--model-dir", plain, *FLAGS, "--attn-num-hidden", 6, "--attn-num-layers", 2,
             "--target-embedding-size", 4]
    wide = [60 if each == "40" else each for each in given]
    for words in (["test", tmp_path / "a.tfrecords", "--json", tmp_path / "r.json", *wide],
                  ["predict", *files, *given]):
        code, logged = run(tmp_path, *words)
        assert code == 0, logged
        assert sum(told in line for line in logged) == 1
    summary = json.loads((tmp_path / "r.json").read_text())["summary"]
    assert (summary["images"], summary["skipped"]) == (3, 0)
    assert originals.hashes(plain) == before


@pytest.mark.slow
def test_the_flags_that_the_original_needed_are_taken(tmp_path: Path) -> None:
    old = Old(layers=1, hidden=5, embedding=3, characters=95, channels=3, gru=True, step=None)
    values = originals.variables(old)
    originals.write(tmp_path / "old", values)
    file = drawn(old)[2]
    (tmp_path / "a.png").write_bytes(file)
    code, logged = run(
        tmp_path, "predict", tmp_path / "a.png", "--model-dir", tmp_path / "old", *FLAGS,
        "--attn-num-layers", 1, "--attn-num-hidden", 5, "--target-embedding-size", 3,
        "--full-ascii", "--color", "--use-gru")
    assert code == 0, logged
    truth = originals.answer(
        old, values, originals.load_image(originals.pixels(file), 40, True), STEPS)
    assert logged[-1].endswith(f"Result: OK. {reference.probability(truth.logits):.2f} "
                               + originals.text(truth.ids, PRINTABLE_ASCII))
    assert sum("(version 0.7.6, no step counter)" in line for line in logged) == 1


@pytest.mark.slow
def test_an_export_answers_as_the_original_model(plain: Path, tmp_path: Path) -> None:
    before = originals.hashes(plain)
    code, logged = run(tmp_path, "export", tmp_path / "out", "--model-dir", plain, *FLAGS)
    assert code == 0, logged
    assert sum("is a model of the original aocr" in line for line in logged) == 1
    old, exported = Recognizer.load(plain, **LIMITS), Recognizer.load(tmp_path / "out")
    assert exported.config == old.config
    files = drawn(Old())
    one, other = old.predict(files), exported.predict(files)
    assert isinstance(one, list)
    assert isinstance(other, list)
    for mine, theirs in zip(one, other, strict=True):
        assert mine.text == theirs.text
        assert mine.probability == pytest.approx(theirs.probability, abs=1e-5)
    assert originals.hashes(plain) == before


def test_an_export_into_the_folder_of_an_original_is_refused(plain: Path, tmp_path: Path) -> None:
    before = originals.hashes(plain)
    for target in (plain, plain / "exported", f"{plain}/../{plain.name}"):
        code, logged = run(tmp_path, "export", target, "--model-dir", plain, *FLAGS)
        assert code == 1
        assert "never written to" in logged[-1]
    assert originals.hashes(plain) == before


@pytest.mark.parametrize(("step", "told"), [(300, True), (100, False), (5000, False),
                                            (None, False)])
def test_averages_that_carry_their_start_value_are_told(
        tmp_path: Path, logged: list[str], step: int | None, told: bool) -> None:
    originals.write(tmp_path, originals.variables(Old(step=step)))
    loader.load(str(tmp_path), LIMITS)
    lines = [line for line in logged if "--debias" in line]
    assert len(lines) == told
    if told:
        assert "carry their start value: 0.049 of 1 at step 300" in lines[0]


@pytest.mark.parametrize("odd", [np.int32(-1 << 31), np.float32(9.0), np.array([9], np.int32)])
def test_an_odd_step_counter_counts_as_none(tmp_path: Path, odd: Any, logged: list[str]) -> None:
    originals.write(tmp_path, {**originals.variables(Old()), "Variable": np.asarray(odd)})
    loader.load(str(tmp_path), LIMITS)
    assert "no step counter" in logged[-1]


def test_a_step_counter_of_64_bits_is_read(tmp_path: Path, logged: list[str]) -> None:
    originals.write(tmp_path, {**originals.variables(Old()), "Variable": np.array(900, np.int64)})
    loader.load(str(tmp_path), LIMITS)
    assert "step 900" in logged[0]


@pytest.mark.parametrize("step", [300, 700, 5000])
def test_debias_takes_the_start_value_out(tmp_path: Path, step: int, logged: list[str]) -> None:
    values = originals.variables(Old(step=step, norm="batch_normalization"))
    originals.write(tmp_path, values)
    model = loader.load(str(tmp_path), LIMITS, CheckpointChoice(debias=True)).model
    share = 0.99**step
    assert sum("Removed the start value" in line for line in logged) == 1
    for n in (3, 5, 7):
        norm = model.cnn.convs[n - 1].norm
        assert norm is not None
        name = f"conv_conv{n}/batch_normalization/moving"
        np.testing.assert_allclose(norm.moving_mean, values[f"{name}_mean"] / (1 - share),
                                   rtol=1e-5)
        np.testing.assert_allclose(
            norm.moving_variance,
            np.maximum((values[f"{name}_variance"] - share) / (1 - share), 0), rtol=1e-3,
            atol=1e-6)


@pytest.mark.parametrize("step", [None, 0, 100])
def test_debias_is_refused_where_the_counter_does_not_fit(tmp_path: Path, step: int | None
                                                          ) -> None:
    originals.write(tmp_path, originals.variables(Old(step=step)))
    with pytest.raises(AocrError, match="leave --debias out"):
        loader.load(str(tmp_path), LIMITS, CheckpointChoice(debias=True))


@given(st.integers(1, 300), st.integers(1, 3000), st.sampled_from([(160, 60), (40, 32), (7, 3)]))
@settings(max_examples=60, deadline=None)
def test_sizes_are_those_of_the_originals_floating_point(
        height: int, width: int, limits: tuple[int, int]) -> None:
    config = ModelConfig(max_width=limits[0], max_height=limits[1], layout="padded")
    own = int(np.ceil(np.float64(width) / height * 32))
    widest = int(np.ceil(np.float64(limits[0]) / limits[1] * 32))
    expected = ((min(height, 32), width if height <= 32 else own) if own <= widest
                else (int(np.ceil(np.float64(widest) / own * 32)), widest))
    found = preprocessing.scaled_size(tf.constant(height), tf.constant(width), config)
    assert tuple(int(side) for side in found) == expected


@pytest.mark.parametrize(("half_pixel", "a"), [(False, -0.75), (True, -0.5)])
def test_the_kernels_of_both_tensorflows_are_keys_with_their_own_parameter(
        half_pixel: bool, a: float) -> None:
    """A single bright pixel, enlarged, shows the kernel itself."""
    dot = np.zeros([1, 1, 16, 1], np.float32)
    dot[0, 0, 8] = 1
    found = tf.raw_ops.ResizeBicubic(images=dot, size=[1, 64], half_pixel_centers=half_pixel)
    shift = 0.5 * half_pixel
    places = (np.arange(64) + shift) / 4 - shift
    np.testing.assert_allclose(
        found[0, 0, :, 0], [originals.cubic(8 - place, a) for place in places], atol=1e-6)


@pytest.mark.parametrize("tf1", [True, False])
@pytest.mark.parametrize("size", [*SIZES, (160, 60), (161, 60), (5, 200), (700, 40), (86, 33)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_are_those_of_the_original(tf1: bool, size: tuple[int, int], mode: str) -> None:
    config = ModelConfig(layout="padded", color=mode == "RGB",
                         kernel="bicubic-tf1" if tf1 else "bicubic-tf2")
    file = encoded(word("Xg3", size, mode))
    expected = originals.load_image(originals.pixels(file), 86, tf1)
    np.testing.assert_allclose(preprocessing.preprocess(tf.constant(file), config), expected,
                               atol=1e-5)


@pytest.fixture(scope="module")
def golden() -> tuple[list[dict[str, Any]], Decoded, Recognizer]:
    """The rows of the golden file, our decoding of all steps, and the recognizer."""
    if not GOLDEN.is_dir() or not DATA.is_dir():
        pytest.skip(f"no model of the original in {GOLDEN}, or no images in {DATA}")
    rows = json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))
    recognizer = CheckpointRecognizer.load(GOLDEN / "model")
    files = [(DATA / row["image"]).read_bytes() for row in rows]
    return rows, decode_all(recognizer.graph.model, files, recognizer.config), recognizer


def test_the_originals_logits_and_attention(
        golden: tuple[list[dict[str, Any]], Decoded, Recognizer]) -> None:
    theirs = np.load(GOLDEN / "golden.npz")
    np.testing.assert_allclose(golden[1].logits, theirs["logits"], atol=1e-4)
    np.testing.assert_allclose(golden[1].attention, theirs["attention"], atol=1e-5)


def test_the_originals_text_and_probability(
        golden: tuple[list[dict[str, Any]], Decoded, Recognizer]) -> None:
    rows, decoded, recognizer = golden
    results = recognizer.predict([DATA / row["image"] for row in rows])
    assert isinstance(results, list)
    for row, ids, logits, result in zip(rows, decoded.ids.numpy(), decoded.logits.numpy(),
                                        results, strict=True):
        assert result.text == row["text"] == originals.text(ids, DIGITS_AND_CAPITALS)
        chances = reference.softmax(logits.astype(np.float64)).max(-1)
        assert np.prod(chances) == pytest.approx(row["probability_all_steps"], abs=1e-5)
        ends = [*ids.tolist(), reference.EOS].index(reference.EOS) + 1
        assert result.probability == pytest.approx(np.prod(chances[:ends]), abs=1e-5)
        assert result.probability >= row["probability_all_steps"] - 1e-6


def test_debias_brings_back_what_the_start_value_hid(
        golden: tuple[list[dict[str, Any]], Decoded, Recognizer], tmp_path: Path) -> None:
    """The original's averages as they would have stood at step 200."""
    rows, decoded, recognizer = golden
    reader = tf.train.load_checkpoint(str(GOLDEN / "model" / "model.ckpt-900"))
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    share = 0.99**200
    for name in [name for name in values if "/moving_" in name]:
        values[name] = np.float32((1 - share) * values[name] + share * name.endswith("variance"))
    values["Variable"] = np.array(200, np.int32)
    originals.write(tmp_path, values)
    files = [(DATA / row["image"]).read_bytes() for row in rows[:8]]
    truth = decoded.ids.numpy()[:8]
    for debias, same in ((False, False), (True, True)):
        model = loader.load(str(tmp_path), choice=CheckpointChoice(debias=debias)).model
        found = decode_all(model, files, recognizer.config)
        assert np.array_equal(found.ids, truth) is same
        assert np.allclose(found.logits, decoded.logits[:8], atol=0.02) is same
