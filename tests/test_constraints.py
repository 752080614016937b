"""Regular expressions and word lists as automata, against Python's `re` and brute force."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aocr.cli.main import main
from aocr.config import ModelConfig
from aocr.errors import AocrError
from aocr.inference import automaton, lexicon, pattern
from aocr.inference.automaton import acyclic, make_table
from aocr.inference.decoding import SearchDecoding, make_decoding
from aocr.inference.options import DecodingOptions
from aocr.inference.recognizer import Recognizer, Result
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.model import TransitionTable
from aocr.model.beam_search import FINAL_STATE, START_STATE
from aocr.tokenizer import EOS_ID, Tokenizer
from tests import capi
from tests.conftest import WORDS, Command, World, messages

ALPHABET = "ab1ß"
LONGEST = 4
ALL_TEXTS = ["".join(text) for length in range(LONGEST + 2)
             for text in itertools.product(ALPHABET, repeat=length)]


def accepted(table: TransitionTable, state: int = START_STATE, step: int = 0
             ) -> Iterator[tuple[int, ...]]:
    """Yields the texts that decoding can return, without dead ends."""
    if state == FINAL_STATE:
        yield ()
        return
    texts = []
    for n in range(table.first[state], table.first[state + 1]):
        if table.distances[table.targets[n]] <= table.steps - 1 - step:
            symbol = () if table.symbols[n] == EOS_ID else (int(table.symbols[n]),)
            texts += [symbol + rest for rest in accepted(table, table.targets[n], step + 1)]
    assert texts, "a dead end"
    yield from texts


def texts_of(table: TransitionTable | None) -> list[str]:
    decode = Tokenizer(ALPHABET).decode
    return sorted(map(decode, [] if table is None else accepted(table)))


def matching_texts(expression: str) -> list[str]:
    """Returns the texts that decoding returns for a regular expression."""
    return texts_of(make_table(pattern.to_automaton(expression, ALPHABET, LONGEST), LONGEST))


def expected_texts(expression: str) -> list[str]:
    return sorted(text for text in ALL_TEXTS
                  if len(text) <= LONGEST and re.fullmatch(expression, text))


@pytest.mark.parametrize("expression", [
    "", "a", ".*", "a{3}", "a{2,}", "(a|b)*?1", r"\d\w", r"\D+", r"[^a-b]{1,2}", "(?i:A)B?",
    r"^a+$", r"(?P<name>a|)b", "a|^b$|", "(?s:.)", "(a*)*", "((a|b){2}){2}", "(?:a?){9}", "x?a",
    r"\w+", r"(?a:\w)+", r"(?i)\u1e9e|SS", r"[\[]?a", "(^a|b$){2}", "$^", "a{0}b", r"\Aa\Z",
    "(?x) a  # a comment", "(a{2}){2}"])
def test_an_automaton_accepts_what_python_matches(expression: str) -> None:
    assert matching_texts(expression) == expected_texts(expression)


EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b", "1", ".", "[ab]", "[^a]", r"\d", r"\w", "ß", "(?i:A)", "^", "$"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?"])).map(
            "(?:{0[0]}){0[1]}".format)), max_leaves=8)


@given(EXPRESSIONS)
def test_a_random_automaton_accepts_what_python_matches(expression: str) -> None:
    assert matching_texts(expression) == expected_texts(expression)


@given(st.sets(st.text(ALPHABET, max_size=LONGEST + 1), min_size=1, max_size=30))
def test_the_automaton_of_a_word_list_is_exact_and_minimal(words: set[str]) -> None:
    codes = sorted(Tokenizer(ALPHABET).encode(word)[:-1] for word in words)
    minimal = acyclic(codes)
    table = make_table(minimal, LONGEST)
    assert texts_of(table) == sorted(word for word in words if len(word) <= LONGEST)
    prefixes = {word[:n] for word in words for n in range(len(word) + 1)}
    suffixes = {frozenset(word[len(prefix):] for word in words if word.startswith(prefix))
                for prefix in prefixes}
    assert len(minimal.transitions) == len(suffixes)


@given(EXPRESSIONS, st.sets(st.text(ALPHABET, max_size=LONGEST), min_size=1, max_size=20))
def test_a_pattern_and_a_word_list_both_hold(
        tmp_path_factory: pytest.TempPathFactory, expression: str, words: set[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "words.txt"
    path.write_text("\n".join(words), encoding="utf-8")
    both = sorted(word for word in words if word and re.fullmatch(expression, word))
    config = ModelConfig(alphabet=ALPHABET, max_prediction=LONGEST)
    options = DecodingOptions(pattern=expression, lexicon=str(path))
    if both:
        decoding = make_decoding(options, config, Tokenizer(ALPHABET))
        assert isinstance(decoding, SearchDecoding)
        assert texts_of(decoding.table) == both
    else:
        with pytest.raises(AocrError, match="none of the|can return none"):
            make_decoding(options, config, Tokenizer(ALPHABET))


@pytest.mark.parametrize(("expression", "message"), [
    ("a[b", "unterminated character set at position 1"),
    ("(a", "at position 0"), ("*", "nothing to repeat at position 0"),
    (r"(a)\1", "back-references"), ("(a)?(?(1)b|1)", "conditions on groups"),
    ("(?=a)b", "lookahead"), ("(?<!a)b", "lookbehind"), (r"\bab", "word boundaries"),
    ("(?!)", "lookahead"), ("c", "alphabet 'ab1ß' matches"), ("a{5}", "at most 4 characters")])
def test_an_expression_that_cannot_be_used_is_an_error_of_one_line(
        expression: str, message: str) -> None:
    config = ModelConfig(alphabet=ALPHABET, max_prediction=LONGEST)
    with pytest.raises(AocrError) as error:
        make_decoding(DecodingOptions(pattern=expression), config, Tokenizer(ALPHABET))
    assert message in str(error.value)
    assert "--pattern" in str(error.value)
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="syntax of Python 3.11")
@pytest.mark.parametrize(("expression", "message"), [
    ("a++", "possessive quantifiers"), ("(?>a)b", "atomic groups")])
def test_items_that_do_not_backtrack_are_refused(expression: str, message: str) -> None:
    with pytest.raises(AocrError, match=message):
        pattern.to_automaton(expression, ALPHABET, LONGEST)


def test_an_exponential_expression_is_refused_with_the_limit(monkeypatch: pytest.MonkeyPatch
                                                             ) -> None:
    monkeypatch.setattr(pattern, "MAX_STATES", 1000)
    with pytest.raises(AocrError, match="more than 1,000 states"):
        pattern.to_automaton("(a|b)*a(a|b){20}", ALPHABET, 30)


def test_deeply_nested_groups_are_refused() -> None:
    depth = sys.getrecursionlimit() // 4  # which Python's parser still accepts
    with pytest.raises(AocrError, match="--pattern .* nests groups too deeply"):
        pattern.to_automaton("(" * depth + "a" + ")*" * depth, ALPHABET, LONGEST)


def test_a_table_over_its_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automaton, "MAX_TRANSITIONS", 2)
    with pytest.raises(AocrError, match="4 transitions, and at most 2 are possible; give a"):
        make_table(acyclic([[3, 4]]), LONGEST)


# Word lists


def test_entries_that_cannot_be_returned_are_counted_and_named(
        tmp_path: Path, logged: list[str]) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffab\r\n\r\nabba1\r\nxyz\r\nab\r\nzz\r\na\u030a\r\n1b".encode())
    assert lexicon.read(str(path), Tokenizer(ALPHABET), LONGEST) == ["ab", "1b"]
    (line,) = logged
    assert line == (f"Lexicon {path}: 2 of 6 entries are used; not used: 3 x unknown character "
                    "(line 4: 'xyz' in 'xyz', line 6: 'z' in 'zz', line 7: 'å' in 'å'); "
                    "1 x longer than 4 characters (line 3: 'abba1')")


def test_white_space_in_entries_is_visible_and_only_the_first_are_named(
        tmp_path: Path, logged: list[str]) -> None:
    path = tmp_path / "words.txt"
    path.write_text("ab\nab \nb\ta\nx\ny\n", encoding="utf-8")
    assert lexicon.read(str(path), Tokenizer(ALPHABET), LONGEST) == ["ab"]
    assert logged[0].endswith("4 x unknown character (line 2: ' ' in 'ab ', line 3: '\\t' in "
                              "'b\\ta', line 4: 'x' in 'x', …)")


@pytest.mark.parametrize(("content", "message"), [
    (b"", "the file is empty"), (b"\n\n", "the file is empty"),
    (b"xyz\nzz\n", r"none of the 2 entries: 2 x unknown character \(line 1: 'xyz' in 'xyz', l"),
    (b"\xff\xfe", "expected a UTF-8 text file"), (None, "expected a UTF-8 text file")])
def test_a_word_list_without_usable_entries_is_an_error(
        tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AocrError, match=message) as error:
        lexicon.read(str(path), Tokenizer(ALPHABET), LONGEST)
    assert f"--lexicon {path}" in str(error.value)


# Recognizers and commands


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A word list of the labels and others."""
    path = tmp_path_factory.mktemp("lexicon") / "words.txt"
    path.write_text("\n".join([*WORDS, "HELL", "WORDS", "B2", "TEN4"]), encoding="utf-8")
    return path


def test_results_match_the_pattern_and_have_the_probability_of_the_model(world: World) -> None:
    free = CheckpointRecognizer.load(world.model_dir)
    recognizer = Recognizer.load(world.model_dir, pattern=r"[A-F]\d{2,3}", n_best=4)
    results = recognizer.predict(world.images)
    assert isinstance(results, list)
    for result in results:
        assert re.fullmatch(r"[A-F]\d{2,3}", result.text)
        text, probability = result.candidates[0]
        assert text == result.text
        assert probability == pytest.approx(result.probability)
        probabilities = [probability for _, probability in result.candidates]
        assert probabilities == sorted(probabilities, reverse=True)
        assert len({text for text, _ in result.candidates}) == 4
        assert "".join(character for character, _ in result.characters) == result.text
    unrestricted = free.predict(world.images)
    assert isinstance(unrestricted, list)
    assert not any(result.candidates for result in unrestricted)
    same = Recognizer.load(world.model_dir, pattern="|".join(
        {re.escape(result.text[:8]) for result in unrestricted}))
    for other, expected in zip(same.predict_each(world.images), unrestricted, strict=True):
        assert isinstance(other, Result)
        if other.text == expected.text:
            assert other.probability == pytest.approx(expected.probability, abs=1e-5)


@pytest.mark.parametrize("kind", ["savedmodel", "frozengraph"])
def test_an_export_carries_its_constraint(
        world: World, command: Command, words: Path, tmp_path: Path, kind: str) -> None:
    n_best = 2 if kind == "savedmodel" else None
    flags = ["--lexicon", words, "--pattern", r"\D.*", "--beam", 3, *(
        ["--n-best", n_best] if n_best else [])]
    code, logged = command("export", tmp_path, "--format", kind, *flags)
    assert code == 0, logged
    content = json.loads((tmp_path / "assets.extra" / "config.json").read_text("utf-8"))
    assert content["decoding"] == {"pattern": r"\D.*", "lexicon": str(words), "beam": 3,
                                   "n_best": n_best, "entries": 11}
    if kind == "frozengraph":
        return
    expected = Recognizer.load(
        world.model_dir, lexicon=str(words), pattern=r"\D.*", beam=3, n_best=2)
    for result, other in zip(Recognizer.load(tmp_path).predict_each(world.images),
                             expected.predict_each(world.images), strict=True):
        assert isinstance(result, Result)
        assert isinstance(other, Result)
        assert result.text == other.text
        assert result.probability == pytest.approx(other.probability, abs=1e-5)
        assert [text for text, _ in result.candidates] == [text for text, _ in other.candidates]
    _assert_equal_in_the_c_api(tmp_path, expected, world.images)
    code, logged = command("predict", world.images[0], "--model-dir", tmp_path, "--beam", 2)
    assert code == 1
    assert "give --pattern, --lexicon, --beam and --n-best to `aocr export`" in logged


def _assert_equal_in_the_c_api(directory: Path, recognizer: Recognizer, images: list[Path]
                               ) -> None:
    """Asserts that the C API, by which TensorFlow Serving runs a model, gives equal results."""
    encoded = [path.read_bytes() for path in images]
    with capi.SavedModel(directory) as model:
        usual, details = (model.run({"input": encoded}, signature)
                          for signature in ("serving_default", "serving_details"))
    for n, result in enumerate(recognizer.predict_each(encoded)):
        assert isinstance(result, Result)
        assert usual["output"][n].decode() == details["output"][n].decode() == result.text
        assert usual["probability"][n] == pytest.approx(result.probability, abs=1e-5)
        assert [text.decode() for text in details["candidates"][n]] == [
            text for text, _ in result.candidates]
        assert list(details["candidate_probabilities"][n]) == pytest.approx(
            [probability for _, probability in result.candidates], abs=1e-5)


def test_an_export_with_another_constraint_does_not_replace_the_config_of_a_saved_model(
        command: Command, tmp_path: Path) -> None:
    assert command("export", tmp_path, "--pattern", "A+")[0] == 0
    code, logged = command("export", tmp_path, "--format", "frozengraph", "--pattern", "B+")
    assert code == 1
    assert "of a model with other settings" in logged


def test_predict_writes_candidates(
        world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(world.images[0]), "--model-dir", str(world.model_dir),
                 "--log-path", str(tmp_path / "log"), "--format", "jsonl", "--n-best", "3",
                 "--pattern", "A|B|https?://C|C"]) == 0  # not taken for a path
    row = json.loads(capsys.readouterr().out)
    assert {text for text, _ in row["candidates"]} == {"A", "B", "C"}
    assert row["candidates"][0] == [row["text"], pytest.approx(row["probability"])]


def test_test_reports_candidates(world: World, command: Command, words: Path, tmp_path: Path
                                 ) -> None:
    path = tmp_path / "results.json"
    code, logged = command("test", world.records, "--lexicon", words, "--n-best", 2, "--json", path)
    assert code == 0, logged
    rows = json.loads(path.read_text("utf-8"))["images"]
    entries = words.read_text("utf-8").split()
    for row in rows:
        assert row["text"] in entries
        assert row["candidates"][0] == [row["text"], pytest.approx(row["probability"])]
        assert len(row["candidates"]) == 2


@pytest.mark.parametrize(("flags", "message"), [
    (["--pattern", "("], "is not a regular expression"),
    (["--pattern", "[[:alpha:]]+"], "regular expression: Possible nested set at position 1"),
    (["--n-best", "3", "--beam", "2"], "--n-best 3 needs --beam 3 or more, got --beam 2"),
    (["--beam", "101"], "--beam must be a whole number from 1 to 100, got 101"),
    (["--lexicon", "missing.txt"], "expected a UTF-8 text file")])
def test_flags_that_cannot_be_used_are_errors_of_one_line(
        world: World, command: Command, flags: list[str], message: str) -> None:
    code, logged = command("predict", world.images[0], *flags)
    assert code == 1
    (line,) = messages(logged)
    assert message in line


@pytest.mark.parametrize("kind", ["frozengraph", "onnx", "tflite"])
def test_candidates_are_refused_in_formats_that_return_one_text(
        world: World, command: Command, tmp_path: Path, kind: str) -> None:
    code, logged = command("export", tmp_path / "out", "--format", kind, "--n-best", 2)
    assert code == 1
    assert f"--format {kind} returns one text" in messages(logged)[-1]
    assert not (tmp_path / "out").exists()


def test_private_modules_of_python_are_those_of_this_version() -> None:
    code = "import warnings; warnings.simplefilter('error'); import aocr.inference.pattern"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_a_constrained_onnx_model_gives_the_results_of_the_checkpoint(
        world: World, command: Command, words: Path, tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx")
    code, logged = command("export", tmp_path, "--format", "onnx", "--lexicon", words, "--beam", 2)
    assert code == 0, logged  # the export compares its predictions with those of the checkpoint
    entries = words.read_text("utf-8").split()
    for result in Recognizer.load(tmp_path).predict_each(world.images):
        assert isinstance(result, Result)
        assert result.text in entries
