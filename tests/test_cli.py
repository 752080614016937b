"""The commands as scripts use them: log lines, files, exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import aocr
from aocr.cli import main as cli_main
from aocr.cli.main import main, parser
from tests import option_tables
from tests.conftest import Command, World, in_process, messages


@pytest.mark.parametrize(("words", "expected"), [
    (["train", "missing.tfrecords"], "no such dataset: missing.tfrecords"),
    (["dataset", "missing.txt"], "no such annotation file: missing.txt"),
    (["test", ".", "--model-dir", "."], "no checkpoint in ."),
    (["predict", "a.png", "--model-dir", "nowhere"], "no model directory nowhere"),
    (["export", "--model-dir", "nowhere"], "no model directory nowhere"),
    (["train", "x", "--charset", "auto", "--full-ascii"], "exclude each other"),
    (["train", "x", "--charset", "nofile"], "--charset nofile"),
])
def test_user_errors_are_one_line_with_exit_code_1(
        command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str],
        expected: str) -> None:
    monkeypatch.chdir(tmp_path)
    code, logged = command(*words, model=False)
    assert code == 1
    assert expected in messages(logged)[-1]
    assert len(messages(logged)) == 1


@pytest.mark.parametrize("name", ["m [1]", "m*", "m?", "m\\\\n"])
def test_a_model_path_that_tensorflow_takes_for_a_pattern_is_refused(
        world: World, command: Command, name: str) -> None:
    code, logged = command("train", world.records, "--model-dir", name)
    assert code == 1
    (line,) = messages(logged)
    assert f"{name}: TensorFlow takes" in line
    assert not Path(name).exists()


def test_an_unwritable_results_file_is_reported_before_the_test(
        world: World, command: Command, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "r.json"):
        code, logged = command("test", world.records, "--json", path)
        assert code == 1
        assert f"cannot write the results to {path}" in messages(logged)[-1]
        assert "Step 1" not in logged


def test_one_file_for_two_results_is_an_error(
        world: World, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "results"
    code, logged = command("test", world.records, "--json", file, "--report", file)
    assert code == 1
    assert messages(logged)[-1] == (
        f"aocr test: --json and --report both name {file}; give each a file of its own")
    assert not file.exists()


def test_results_are_written_through_links(world: World, command: Command, tmp_path: Path) -> None:
    link, file = tmp_path / "link", tmp_path / "file.json"
    file.write_text("")
    link.symlink_to(file)
    assert command("test", world.records, "--json", link)[0] == 0
    assert link.is_symlink()
    assert json.loads(file.read_text(encoding="utf-8"))["summary"]["images"] == 8


def test_a_dataset_does_not_replace_a_pipe_or_a_directory(
        world: World, command: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for output, words in ((f"{tmp_path}/pipe", "not a regular file"),
                          (f"{tmp_path}/new/", "a directory")):
        code, logged = command("dataset", world.annotations, output)
        assert code == 1
        assert words in messages(logged)[-1]
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".log"] == ["pipe"]


@pytest.mark.parametrize("arguments", [
    ["dataset", "n\udcff.txt", "o.tfrecords"], ["dataset", "list.txt", "o\udcff.tfrecords"],
    ["train", "o\udcff.tfrecords"], ["train", "o.tfrecords", "--charset", "n\udcff.txt"],
    ["predict", "a.png", "--model-dir", "m\udcff"]])
def test_paths_that_tensorflow_cannot_open_are_refused(
        arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments]) == 1
    assert r"\udcff" in (error := capsys.readouterr().err)
    assert "is not UTF-8, and TensorFlow opens no other paths; rename" in error


@pytest.mark.slow
def test_file_names_that_are_not_utf8_are_read(
        world: World, command: Command, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "images")
    os.mkdir(folder)
    for name in (b"caf\xe9.png", b"good.png"):
        shutil.copy(os.fsencode(world.images[0]), os.path.join(folder, name))
    for files in ([tmp_path / "images"], [os.fsdecode(os.path.join(folder, b"caf\xe9.png")),
                                          tmp_path / "images" / "good.png"]):
        code, logged = command("predict", *files)
        assert code == 0
        assert sum("Result: OK" in line for line in messages(logged)) == 2
    code, _ = command("predict", *files, "--format", "jsonl")
    assert code == 0
    code, logged = command("predict", os.fsdecode(os.path.join(folder, b"\xe9.png")))
    assert code == 1
    assert sum("No such file or directory" in line for line in messages(logged)) == 1


def test_predict_warns_if_no_file_was_named(
        command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    code, logged = command("predict")
    assert code == 0
    assert "No file was named; nothing was read." in messages(logged)


@pytest.mark.parametrize("flags", [["--checkpoint", "7"], ["--debias"]])
def test_checkpoint_flags_are_refused_for_an_exported_model(
        exported: Path, world: World, command: Command, flags: list[str]) -> None:
    code, logged = command("predict", world.images[0], "--model-dir", exported, *flags)
    assert code == 1
    assert "is an exported model; --checkpoint and --debias" in messages(logged)[-1]


@pytest.mark.parametrize("name", ["frozen_graph.pb", "model.tflite"])
def test_predict_says_which_exports_it_reads(
        world: World, command: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    code, logged = command("predict", world.images[0], "--model-dir", tmp_path)
    assert code == 1
    assert messages(logged)[-1].endswith(
        "; `aocr predict` also reads exports in the formats savedmodel and onnx")


def test_the_remedy_for_lack_of_memory_names_flags_that_the_command_has(
        command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
        ) -> None:
    def run_out_of_memory(_: object) -> None:
        raise MemoryError("Unable to allocate 1 GiB")

    for name, module in cli_main._COMMANDS.items():
        monkeypatch.setattr(module, "run", run_out_of_memory)
        code, logged = command(name, *["x"] * (name != "predict"), model=False)
        assert code == 1
        assert f"aocr {name}: out of memory: Unable to allocate 1 GiB; use " in logged
        assert set(re.findall(r"--[a-z-]+", logged)) <= set(
            re.findall(r"--[a-z-]+", help_of(capsys, name)))


def test_a_missing_dataset_is_an_error(command: Command) -> None:
    code, logged = command("test", "missing.tfrecords")
    assert code == 1
    assert "no such dataset: missing.tfrecords" in messages(logged)[-1]


@pytest.mark.parametrize("words", [[], ["unknown"], ["train"], ["train", "x", "--max-width", "0"],
                                   ["train", "x", "--batch-size", "many"]])
def test_wrong_usage_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "usage: aocr" in capsys.readouterr().err


def test_a_file_where_a_directory_is_needed_is_an_error(
        world: World, command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, logged = command("export", tmp_path / "file")
    assert code == 1
    assert "is a file" in messages(logged)[-1]
    code, logged = command("train", world.records, "--model-dir", tmp_path / "file")
    assert code == 1
    assert str(tmp_path / "file") in messages(logged)[-1]


@pytest.mark.slow
def test_a_missing_gpu_is_reported_if_it_was_requested(world: World, command: Command) -> None:
    _, by_default = command("predict", world.images[0])
    _, requested = command("predict", world.images[0], "--gpu-id", 7)
    assert "GPU" not in by_default
    assert "There is no GPU 7" in requested


def test_an_unwritable_log_path_is_an_error(
        world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    code = main(["predict", str(world.images[0]), "--model-dir", str(world.model_dir),
                 "--log-path", str(tmp_path / "file" / "folder" / "aocr.log")])
    assert code == 1
    assert "--log-path" in capsys.readouterr().err


def test_help_and_usage_errors_do_not_import_tensorflow(tmp_path: Path) -> None:
    code = ("import sys, aocr.cli.main\n"
            "for words in (['train', '--help'], ['serve', '--help']):\n"
            "    try: aocr.cli.main.main(words)\n"
            "    except SystemExit: pass\n"
            "try: aocr.cli.main.main(['train'])\n"
            "except SystemExit: pass\n"
            "import aocr\n"
            "heavy = {'tensorflow', 'keras', 'numpy', 'PIL', 'grpc', 'uvicorn', 'starlette',\n"
            "         'prometheus_client', 'tensorflow_serving'} & set(sys.modules)\n"
            "sys.exit(f'imported {heavy}' if heavy else 0)")
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                           cwd=Path(aocr.__file__).parents[1], check=False)
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
def test_a_separate_process_prints_only_its_log(world: World, tmp_path: Path) -> None:
    process = in_process("predict", "--model-dir", str(world.model_dir), cwd=tmp_path,
                       text=f"{world.images[0]}\n")
    assert process.returncode == 0
    assert process.stdout == ""
    assert len(messages(process.stderr)) == 2
    assert (tmp_path / "aocr.log").read_text(encoding="utf-8") == process.stderr


COMMANDS = ("dataset", "train", "test", "predict", "export", "serve")
ORIGINAL_FLAGS = """
    --max-width 200 --max-height 50 --max-prediction 9 --full-ascii --color --no-distance
    --gpu-id -1 --use-gru --attn-num-layers 1 --attn-num-hidden 64 --target-embedding-size 5
    --initial-learning-rate 0.5 --max-gradient-norm 2 --no-gradient-clipping --job-dir model
    --output-dir pictures --log-path log"""


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)])
def test_help_fits_80_columns_and_its_examples_parse(
        words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
        ) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = help_of(capsys, *words).splitlines()
    assert max(map(len, lines)) <= 80
    examples = [re.sub(r" > \S+$", "", line).split("| ")[-1] for line in lines
                if line.startswith("  aocr ") or "| aocr " in line]
    assert examples
    for example in examples:
        assert parser().parse_args(shlex.split(example)[1:]).command


@pytest.mark.parametrize("name", ["train", "test", "predict", "export"])
def test_flags_that_the_original_accepted_on_every_command_are_accepted(name: str) -> None:
    dataset = ["words.tfrecords"] if name in ("train", "test") else []
    args = parser().parse_args([name, *dataset, *shlex.split(ORIGINAL_FLAGS)])
    assert (args.model_dir, args.max_width, args.attn_num_hidden) == ("model", 200, 64)


def test_help_hides_flags_without_effect(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {name: set(re.findall(r"--[a-z-]+", help_of(capsys, name))) for name in COMMANDS}
    learning = {"--initial-learning-rate", "--max-gradient-norm", "--no-gradient-clipping"}
    assert learning <= shown["train"]
    for name in ("test", "predict", "export"):
        assert not shown[name] & (learning | {"--attn-num-layers", "--use-gru", "--color"})
    for name in ("train", "predict", "export"):
        assert not shown[name] & {"--output-dir", "--no-distance"}


def test_the_option_tables_are_those_of_the_parsers() -> None:
    text = option_tables.README.read_text(encoding="utf-8")
    assert text == option_tables.with_tables(text), "run python -m tests.option_tables"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    first, *models = capsys.readouterr().out.splitlines()
    assert first == f"aocr {aocr.__version__}"
    assert models[0] == "built-in models:"
    assert re.fullmatch(r"  latin: .*drawn images.*", models[1])


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_training_with_a_checkpoint(
        world: World, tmp_path: Path, number: signal.Signals, code: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(aocr.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-m", "aocr", "train", str(world.records), "--model-dir", "m",
         "--batch-size", "4"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if "Step 2:" in line:
            process.send_signal(number)
            break
    remaining = process.stderr.read()
    assert process.wait() == code
    assert f"{number.name}: stopping after this step." in remaining
    step = re.findall(r"Saving the model at step (\d+)\.", remaining)[-1]
    assert (tmp_path / "m" / f"model.ckpt-{step}.index").exists()
