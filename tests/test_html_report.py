"""The report of `aocr test`, opened in a browser."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf

from aocr.config import ModelConfig
from aocr.data.example import Record, encode
from aocr.data.pipeline import Batch
from aocr.evaluation.evaluate import EvaluationOptions, evaluate
from aocr.inference.graph import RecognitionGraph
from aocr.inference.recognizer import Result
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.model import AttentionOCR
from aocr.runtime.distributed import Cluster
from tests.conftest import Command, World, messages
from tests.drawing import encoded, word

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

OpenPage = Callable[..., "Page"]
PREDICTIONS = {  # label: prediction, probability
    "<script>hostile=1</script>": ("<script>hostile=2</script>", .3),
    '"><img src=x onerror=hostile=1>': ("\"'><img src=x onerror=hostile=1>", .4),
    "</style></script><!--": ("</style></script><!--", .5),
    "{{ 7*7 }}{% raw %}": ("{{ 7*7 }}{% raw %", .6),
    "שלום 12": ("שלום 21", .7),
    "سلام": ("سلاا", .8),
    "aͤo\u0364": ("aoͤ", .95),
    "\U0001f469\u200d\U0001f680 ok": ("\U0001f469\u200d\U0001f680 0k", .99),
    "a\u202eb\u200bc\x07d": ("a\u202ebc\x07d", .2),
    "&amp;&lt;": ("&amp;&lt;", .97),
    "12.50": ("12.50", .999),
    "8.80": ("0.80", .6),
    "10.80": ("10.00", .91),
    "rn": ("m", .85),
    '"1,5"\t=2': ('"1,5"\t=2', .9),
    "": ("", .9),
}


class _Recognizer(CheckpointRecognizer):
    """Gives the texts of `PREDICTIONS`, each character looking at a column of its own."""

    def score(self, batch: Batch, attention: bool = False) -> Iterator[tuple[Result, float]]:
        for target, width in zip(batch.targets.numpy(), batch.widths.numpy(), strict=True):
            text, probability = PREDICTIONS[self.graph.tokenizer.decode(target)]
            columns = -(-int(width) // 4)
            weights = np.eye(max(columns, len(text)), dtype=np.float32)[:len(text), :columns]
            characters = tuple((character, probability) for character in text)
            yield Result(text, probability, characters, weights if attention else None,
                         int(width)), 1 - probability


def _evaluate(path: Path, **options: Any) -> dict[str, Any]:
    """Evaluates `_Recognizer`; returns the content of its JSON file."""
    alphabet = "".join(sorted({*"".join(PREDICTIONS)}))
    config = ModelConfig(max_width=300, max_height=32, max_prediction=40, alphabet=alphabet,
                         attn_num_hidden=1, attn_num_layers=1)
    records = path / "hostile <b>.tfrecords"
    with tf.io.TFRecordWriter(str(records)) as writer:
        for n, label in enumerate(PREDICTIONS):
            image = encoded(word("word", (150 + 5 * n, 32)))
            writer.write(encode(Record(image, label, f"<i>{n}</i>.png" if n % 2 else "")))
    recognizer = _Recognizer(f"{path}/model.ckpt-1",
                             RecognitionGraph(config, AttentionOCR(config)))
    evaluate([str(records)], recognizer, EvaluationOptions(
        4, json_path=f"{path}/result.json", report_path=f"{path}/report.html", **options),
        Cluster(tf.distribute.get_strategy()))
    result: dict[str, Any] = json.loads((path / "result.json").read_text(encoding="utf-8"))
    return result


@dataclass(frozen=True)
class Report:
    """A report and the JSON file of the same evaluation."""

    url: str
    result: dict[str, Any]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    path = tmp_path_factory.mktemp("report")
    result = _evaluate(path)
    return Report((path / "report.html").as_uri(), result)


def _cards(page: Page) -> Locator:
    return page.locator(".card")


def _texts(page: Page) -> list[tuple[str, str]]:
    """Predictions and labels of the images shown, in their order."""
    texts = []
    for card in _cards(page).all():
        read, *label = [line.text_content() for line in card.locator(".pair bdi").all()]
        texts.append((read or "", label[0] or "" if label else read or ""))
    return texts


def test_the_page_shows_the_texts_and_metrics_of_the_json_file(
        open_page: OpenPage, report: Report) -> None:
    page = open_page(report.url)
    rows = report.result["images"]
    assert sorted(_texts(page)) == sorted((row["text"], row["label"]) for row in rows)
    summary = report.result["summary"]
    tiles = [tile.inner_text() for tile in page.locator(".tile strong").all()]
    assert tiles[0] == f"{summary['word_accuracy']:.1%}".replace("%", "\u202f%")
    assert tiles[1] == f"{summary['cer']:.2%}".replace("%", "\u202f%")
    assert page.locator("#count").inner_text() == f"{len(rows)} of {len(rows)} images"
    wrong = [row for row in rows if not row["correct"]]
    assert page.locator(".card.wrong").count() == len(wrong)


def test_hostile_texts_are_shown_as_text(open_page: OpenPage, report: Report) -> None:
    page = open_page(report.url)
    assert page.evaluate("typeof hostile") == "undefined"
    assert page.locator(".gallery img").count() == len(PREDICTIONS)
    assert page.locator(".gallery script, .gallery style, header b, .facts i").count() == 0
    assert page.locator("header .path").last.inner_text().endswith("hostile <b>.tfrecords")
    assert "<i>1</i>.png" in page.locator(".file").all_text_contents()
    # The text of a label does not change the direction of the text around it.
    assert page.locator(".pair bdi").count() == page.locator(".pair > :last-child").count()
    codes = page.locator("[data-code]").evaluate_all("all => all.map(glyph => glyph.dataset.code)")
    assert {"U+200B", "U+0007"} <= set(codes)


def test_a_script_that_is_not_of_the_page_does_not_run(
        open_page: OpenPage, report: Report, page_problems: list[str]) -> None:
    page = open_page(report.url)
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "hostile = 1";
        document.body.append(script);
    }""")
    assert page.evaluate("typeof hostile") == "undefined"
    assert "Content Security Policy" in page_problems.pop()


def test_filters_select_images(open_page: OpenPage, report: Report) -> None:
    page = open_page(report.url)
    page.get_by_role("radio", name="Right").check(force=True)
    assert len(_texts(page)) == 5
    assert all(text == label for text, label in _texts(page))
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("searchbox").fill("ONERROR")
    assert len(_texts(page)) == 1
    page.get_by_role("searchbox").fill("")
    page.get_by_label("Length from").fill("4")
    page.get_by_label("Length to").fill("5")
    assert {label for _, label in _texts(page)} == {
        label for label in PREDICTIONS if 4 <= len(label) <= 5}
    page.get_by_label("Length to").fill("3")
    assert page.locator("#none").is_visible()
    page.get_by_role("button", name="Show all").click()
    page.get_by_label("Probability from, in percent").fill("95")
    page.get_by_label("Order").select_option("doubtful")
    probabilities = _cards(page).evaluate_all(
        "all => all.map(card => Number(card.dataset.probability))")
    assert probabilities == sorted(p for _, p in PREDICTIONS.values() if p >= .95)


def test_images_with_most_errors_come_first_and_confident_errors_are_one_click(
        open_page: OpenPage, report: Report) -> None:
    page = open_page(report.url)
    errors = _cards(page).evaluate_all("all => all.map(card => Number(card.dataset.errors))")
    assert errors == sorted(errors, reverse=True)
    page.get_by_role("button", name="Confident errors").click()
    assert [label for _, label in _texts(page)] == [
        "\U0001f469\u200d\U0001f680 ok", "aͤo\u0364", "10.80"]


def test_confusions_and_bars_select_their_images(open_page: OpenPage, report: Report) -> None:
    page = open_page(report.url)
    row = page.locator("#confusions tr").filter(
        has=page.get_by_label("Images where 8 is read as 0", exact=True))
    assert row.locator(".number").inner_text() == "2"
    row.get_by_role("button").click()
    assert sorted(_texts(page)) == [("0.80", "8.80"), ("10.00", "10.80")]
    page.locator("#chip").click()
    assert _cards(page).count() == len(PREDICTIONS)
    assert page.get_by_label("Images where rn is read as m").count() == 1
    page.locator("a[data-length='4 4'], a[data-length^='4 ']").first.click()
    assert "سلام" in {label for _, label in _texts(page)}
    page.get_by_label("Images whose label contains U+200B").click()
    assert [label for _, label in _texts(page)] == ["a\u202eb\u200bc\x07d"]


def test_the_attention_of_the_character_under_the_pointer_is_drawn(
        open_page: OpenPage, report: Report) -> None:
    page = open_page(report.url)
    card = _cards(page).filter(has_text="8.80").filter(has_text="0.80").first
    card.scroll_into_view_if_needed()
    card.locator(".read i").nth(2).hover()
    page.wait_for_function("document.querySelector('.card canvas')?.width > 1")
    brightest = """canvas => {
        const copy = new OffscreenCanvas(canvas.width, 1).getContext("2d");
        copy.drawImage(canvas, 0, 0);
        const data = copy.getImageData(0, 0, canvas.width, 1).data;
        const red = Array.from({ length: canvas.width }, (_, x) => data[4 * x]);
        return red.indexOf(Math.max(...red));
    }"""
    assert card.locator("canvas").evaluate(brightest) == 2
    assert card.locator("i.now").inner_text() == "8"
    # Over the picture, the character that looks there is marked.
    box = card.locator("img").bounding_box()
    assert box is not None
    width = int(card.get_attribute("data-width") or 0)
    page.mouse.move(box["x"] + box["width"] * 6 / width, box["y"] + 5)
    page.wait_for_function("document.querySelector('i.now')?.previousElementSibling !== null")
    assert card.locator("canvas").evaluate(brightest) == 1
    page.mouse.move(2, 2)
    assert page.locator("i.now").count() == 0


def test_attention_that_is_decoded_after_the_pointer_has_left_is_not_shown(
        open_page: OpenPage, report: Report) -> None:
    page = open_page(report.url)
    card = _cards(page).first
    card.scroll_into_view_if_needed()
    page.evaluate("""() => {
        const decode = HTMLImageElement.prototype.decode;
        const released = new Promise((resolve) => { window.release = resolve; });
        HTMLImageElement.prototype.decode = function () {
            return window.decoded = released.then(() => decode.call(this));
        };
    }""")
    card.locator("img").hover()
    page.mouse.move(2, 2)
    page.evaluate("release(); decoded.then(() => new Promise(requestAnimationFrame))")
    assert page.locator("i.now").count() == 0


def test_images_and_characters_are_reached_with_the_keyboard(
        open_page: OpenPage, report: Report) -> None:
    page = open_page(report.url)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "query"
    page.get_by_role("button", name="Reset").focus()
    page.keyboard.press("Tab")
    assert _cards(page).first.evaluate("card => card === document.activeElement")
    page.keyboard.press("ArrowDown")
    assert _cards(page).nth(1).evaluate("card => card === document.activeElement")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert _cards(page).nth(1).locator("i:nth-child(2).now").count() == 1
    page.wait_for_function("document.querySelector('#announcement').textContent.includes('2 of 7')")
    page.keyboard.press("End")
    assert _cards(page).last.evaluate("card => card === document.activeElement")


def _saved(page: Page, tmp_path: Path) -> list[list[str]]:
    """Saves the list; returns label, text and probability of each row."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save list").click()
    assert download.value.suggested_filename == "images.csv"
    download.value.save_as(tmp_path / "images.csv")
    content = (tmp_path / "images.csv").read_bytes()
    assert content.startswith(codecs.BOM_UTF8)
    header, *rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    assert header[2:5] == ["label", "text", "probability"]
    assert {len(row) for row in rows} == {len(header)}
    return [row[2:5] for row in rows]


def test_the_list_of_shown_images_is_saved_as_a_table(
        open_page: OpenPage, report: Report, tmp_path: Path) -> None:
    page = open_page(report.url)
    page.get_by_role("searchbox").fill(".80")
    assert sorted(_saved(page, tmp_path)) == [
        ["10.80", "10.00", "0.91"], ["8.80", "0.80", "0.6"]]


def test_a_saved_table_holds_texts_as_they_are(
        open_page: OpenPage, report: Report, tmp_path: Path) -> None:
    rows = _saved(open_page(report.url), tmp_path)
    assert {label: (text, float(probability)) for label, text, probability in rows} == PREDICTIONS


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_window_in_light_and_dark(
        open_page: OpenPage, report: Report, width: int, scheme: str) -> None:
    page = open_page(report.url, viewport={"width": width, "height": 700}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    darkness = [int(part) < 128 for part in background.strip("rgb()").split(",")]
    assert darkness == [scheme == "dark"] * 3


def test_images_beyond_the_limit_are_named(open_page: OpenPage, tmp_path: Path) -> None:
    _evaluate(tmp_path, report_images=10)
    page = open_page((tmp_path / "report.html").as_uri())
    assert _cards(page).count() == 10
    assert page.locator(".card.right").count() == 1
    lead = page.locator("#images .lead").first.inner_text()
    assert "9 of 11 wrong images (those with most errors)" in lead
    assert "a sample of 1 of 5 right ones" in lead


@pytest.mark.parametrize(("use_distance", "row", "sentence"), [
    (True, "accuracy (edit credit) ", "Accuracy of aocr 0.7, with its edit credit:"),
    (False, "accuracy (exact) ", "Accuracy of aocr 0.7, without its edit credit:")])
def test_the_accuracy_is_shown_with_what_it_counts(
        logged: list[str], tmp_path: Path, use_distance: bool, row: str, sentence: str) -> None:
    summary = _evaluate(tmp_path, use_distance=use_distance)["summary"]
    assert summary["edit_credit"] == use_distance
    assert [line.split()[-1] for line in logged if line.startswith(row)] == [
        f"{summary['accuracy']:.2%}"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    share = f"{summary['accuracy']:.1%}".replace("%", " %")
    assert f"{sentence} {share}." in " ".join(page.split())


def test_the_command_writes_the_report_of_a_model(
        open_page: OpenPage, world: World, command: Command, tmp_path: Path) -> None:
    code, _ = command("test", world.records, "--report", tmp_path / "report.html",
                      "--json", tmp_path / "result.json")
    assert code == 0
    page = open_page((tmp_path / "report.html").as_uri())
    rows = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["images"]
    assert sorted(_texts(page)) == sorted((row["text"], row["label"]) for row in rows)
    assert page.locator("#training .chart").count() == 1  # without validation
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "result.json", "test.log"}


def test_a_report_that_cannot_be_written_is_reported_before_the_test(
        world: World, command: Command, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "report.html"):
        code, logged = command("test", world.records, "--report", path)
        assert code == 1
        assert f"cannot write the results to {path}" in messages(logged)[-1]
        assert "--report" in messages(logged)[-1]
        assert "Step 1" not in logged
