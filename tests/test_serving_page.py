"""The web page of the server: its files and headers, and its behavior in a browser."""

from __future__ import annotations

import base64
import http.client
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageChops, ImageStat

from aocr.cli import serve
from aocr.cli.main import parser
from aocr.inference.recognizer import Recognizer, Result
from tests import drawing, serving
from tests.conftest import World
from tests.serving import NAME, Client

serving.require_extra()

from aocr.serving import web_page  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Locator, Page, Route

ROTATED = 6  # the orientation of a picture taken with a phone upright
FILES = sorted(path.name for path in Path(web_page.__file__).with_name("page").iterdir()
               if path.name != "index.html")
SCALED = " · scaled to "
HOSTILE = "<script>alert('x')</script>"
OpenPage = Callable[..., "Page"]


@pytest.fixture(scope="module")
def client(exported: Path) -> Iterator[Client]:
    with serving.in_thread(exported) as client:
        yield client


@pytest.fixture(scope="module")
def result(world: World) -> Result:
    result = Recognizer.load(world.model_dir).predict(world.images[0], attention=True)
    assert isinstance(result, Result)
    return result


def get(client: Client, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    """Returns status code, headers and body of a response."""
    connection = http.client.HTTPConnection("127.0.0.1", client.rest, timeout=60)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in FILES)])
def test_files_of_the_page_have_a_type_and_allow_only_their_own_scripts(
        client: Client, path: str) -> None:
    code, headers, body = get(client, path)
    assert code == 200
    types = {"js": "javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert types.get(path.rpartition(".")[2], "text/html") in headers["content-type"]
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-cache"
    assert not re.search(r"<style|<script(?![^>]* src=)|\s(style|on\w+)=", body)
    assert re.findall(r"https?://[\w./]*", body) in ([], ["http://www.w3.org/2000/svg"])
    code, headers, body = get(client, path, "HEAD")
    assert (code, body) == (200, "")
    assert int(headers["content-length"]) > 0


def test_only_the_files_of_the_page_are_served(client: Client) -> None:
    for path in ("/page", "/page/", "/page/index.html", "/page/other.js", "/page/../config.py",
                 "/page/%2e%2e%2fconfig.py", "/page/%00", f"/page/{'y' * 3000}"):
        code, headers, body = get(client, path)
        assert (code, headers["content-type"]) == (404, "application/json")
        assert "error" in json.loads(body)
    assert get(client, "/", "POST")[0] == get(client, "/page/page.js", "POST")[0] == 405


def test_no_page_turns_the_page_off(exported: Path) -> None:
    options = [serve._options(parser().parse_args(["serve", "exported", *flags]))
               for flags in ([], ["--no-page"])]
    assert [option.page for option in options] == [True, False]
    with serving.in_thread(exported, page=options[1].page, grpc_port=0) as client:
        assert [get(client, path)[0] for path in ("/", "/page/page.js")] == [404, 404]


def png(text: str) -> bytes:
    return drawing.encoded(drawing.word(text))


def choose(page: Page, *files: tuple[str, bytes]) -> list[Locator]:
    """Chooses files and returns their cards, once all of them have been processed."""
    payloads: list[FilePayload] = [
        {"name": name, "mimeType": "", "buffer": content} for name, content in files]
    page.set_input_files("#files", payloads)
    return finished_cards(page)


def finished_cards(page: Page) -> list[Locator]:
    page.locator(".card").first.wait_for()
    page.locator(".card[aria-busy=true]").first.wait_for(state="detached")
    return page.locator(".card").all()


def respond_with(page: Page, characters: Sequence[str], probabilities: Sequence[float]) -> None:
    """Lets the page receive a prediction that no request computes."""
    columns = len(characters)
    outputs = {"output": "".join(characters), "probability": 0.5, "characters": characters,
               "character_probabilities": probabilities, "widths": 4 * columns,
               "attention": [[float(n == m) for m in range(columns)] for n in range(columns)]}

    def fulfill(route: Route) -> None:
        route.fulfill(json={"outputs": outputs})

    page.route("**/*:predict", fulfill)


def test_an_image_is_read_as_the_recognizer_does(
        client: Client, open_page: OpenPage, world: World, result: Result) -> None:
    page = open_page(client.url)
    page.get_by_text(f"Model {NAME}, version 3").wait_for()
    (card,) = choose(page, (world.images[0].name, world.images[0].read_bytes()))
    assert card.locator(".text").text_content() == result.text
    assert f"{result.probability:.2%}" in (card.locator(".readout").text_content() or "")
    characters = [option for option in card.get_by_role("option").all() if option.text_content()]
    assert [option.get_attribute("aria-label") for option in characters] == [
        f"{character}, {probability:.2%}" for character, probability in result.characters]
    characters[0].hover()
    character, probability = result.characters[0]
    assert f"{character}\u2069 {probability:.2%}" in (card.locator(".readout").text_content() or "")


def test_a_version_that_could_not_be_loaded_is_shown(client: Client, open_page: OpenPage) -> None:
    def add_version(route: Route) -> None:
        status = route.fetch().json()
        status["model_version_status"].append({
            "version": "4", "state": "END", "status": {"error_message": "no saved_model.pb"}})
        route.fulfill(json=status)

    page = open_page("about:blank")
    page.route(f"**/v1/models/{NAME}", add_version)
    page.goto(client.url)
    page.get_by_text(f"Model {NAME}, version 3 · Version 4: no saved_model.pb").wait_for()


def test_several_images_are_read_and_an_error_is_shown_in_the_words_of_the_server(
        client: Client, open_page: OpenPage, page_problems: list[str]) -> None:
    page = open_page(client.url)
    content = b"no image"
    _, response = client.predict({"inputs": {"b64": base64.b64encode(content).decode()}})
    cards = choose(page, ("a.png", png("A1")), ("notes.png", content), ("b.png", png("B22")))
    assert [card.get_attribute("data-state") for card in cards] == ["read", "failed", "read"]
    assert cards[1].locator(".problem").text_content() == f"400: {response['error']}"
    assert page.locator("#summary").text_content() == "2 read, 1 failed"
    cards[1].get_by_role("button", name="Remove").click()
    assert page.locator("#summary").text_content() == "2 read"
    assert [text for text in page_problems if "400" not in text] == []
    page_problems.clear()


def test_the_keyboard_moves_over_the_characters_and_their_attention(
        client: Client, open_page: OpenPage) -> None:
    page = open_page(client.url)
    respond_with(page, ["K", "E", ""], [0.9, 0.25, 0.99])
    (card,) = choose(page, ("a.png", png("KE")))
    page.locator(".character").first.focus()
    for key, label in (("ArrowRight", "E"), ("End", "end of text"), ("Home", "K")):
        page.keyboard.press(key)
        focused = page.locator(":focus")
        assert (focused.get_attribute("aria-label") or "").startswith(label)
        assert focused.get_attribute("aria-selected") == "true"
    assert "90.00%" in (card.locator(".readout").text_content() or "")
    # The attention of the first character is on the first of three columns.
    pixels = card.locator("canvas").evaluate(
        "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 12, 1).data)")
    assert pixels[4 * 1 + 3] < pixels[4 * 10 + 3]  # opacity


def test_hostile_names_and_texts_are_shown_as_text(client: Client, open_page: OpenPage) -> None:
    page = open_page(client.url)
    respond_with(page, list(HOSTILE), [0.5] * len(HOSTILE))
    name = "<img src=x onerror=alert(1)>.png"
    (card,) = choose(page, (name, png("A")))
    assert card.locator(".text").text_content() == HOSTILE
    assert card.locator(".name").text_content() == name
    assert page.locator("main script, .name img").count() == 0


def test_combining_marks_and_emoji_are_one_character_on_the_page(
        client: Client, open_page: OpenPage) -> None:
    page = open_page(client.url)
    respond_with(page, ["e", "\u0301", "\U0001f600", "\u05d0", ""], [0.5, 0.5, 0.9, 0.8, 1.0])
    (card,) = choose(page, ("a.png", png("A")))
    labels = [option.get_attribute("aria-label") for option in card.get_by_role("option").all()]
    assert labels == ["e\u0301, 25.00%", "\U0001f600, 90.00%", "\u05d0, 80.00%",
                      "end of text, 100.00%"]


def test_the_table_is_that_of_predict(client: Client, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(client.url, accept_downloads=True)
    respond_with(page, ["A", "\t", "\\"], [0.5, 0.5, 0.5])
    choose(page, ("a.png", png("A")), ("b.png", png("B")))
    with page.expect_download() as download:
        page.get_by_role("button", name="Download TSV").click()
    download.value.save_as(tmp_path / "table.tsv")
    assert download.value.suggested_filename == f"{NAME}.tsv"
    assert (tmp_path / "table.tsv").read_text(encoding="utf-8") == (
        "a.png\t0.500000\tA\\t\\\\\nb.png\t0.500000\tA\\t\\\\\n")
    page.get_by_role("button", name="Copy table").click()
    page.get_by_text("Copied 2 rows").wait_for()


@pytest.mark.parametrize(("orientation", "size", "sent_size", "shown"), [
    (ROTATED, (24, 60), (60, 24), ""),
    (ROTATED, (4032, 3024), (1225, 1633), f"{SCALED}40%"),
    (1, (4032, 3024), (1633, 1225), f"{SCALED}40%"),
    (1, (20000, 150), (16330, 122), f"{SCALED}81%")])
def test_rotated_and_large_pictures_are_sent_upright_and_scaled_down(
        client: Client, open_page: OpenPage, orientation: int, size: tuple[int, int],
        sent_size: tuple[int, int], shown: str) -> None:
    picture = drawing.word("AB").resize(size)
    content = drawing.with_orientation(picture, orientation)
    readout, sent = choose_and_receive(open_page(client.url), "camera.jpg", content)
    assert readout.partition("probability")[2] == shown
    image = drawing.opened(sent)
    assert (image.format, image.size) == ("PNG", sent_size)
    upright = picture.transpose(Image.Transpose.ROTATE_270) if orientation != 1 else picture
    difference = ImageChops.difference(image.convert("RGB"), upright.resize(sent_size))
    assert max(ImageStat.Stat(difference).mean) < 4


@pytest.mark.parametrize("size", [(2000, 1000), (300_000, 10)])  # at the bound; over any canvas
def test_other_images_are_sent_as_they_are(
        client: Client, open_page: OpenPage, size: tuple[int, int]) -> None:
    content = drawing.encoded(drawing.word("AB").resize(size))
    readout, sent = choose_and_receive(open_page(client.url), "scan.png", content)
    assert sent == content
    assert SCALED not in readout


def choose_and_receive(page: Page, name: str, content: bytes) -> tuple[str, bytes]:
    """Chooses a file; returns what its card shows below the text, and the image that is sent."""
    with page.expect_request("**/*:predict") as request:
        (card,) = choose(page, (name, content))
    assert card.get_attribute("data-state") == "read", card.text_content()
    sent = json.loads(request.value.post_data or "")["inputs"]["b64"]
    return card.locator(".readout").text_content() or "", base64.b64decode(sent)


def test_pasted_and_dropped_images_are_read(client: Client, open_page: OpenPage) -> None:
    page = open_page(client.url)
    encoded = base64.b64encode(png("A1")).decode()
    for event, field in (("paste", "clipboardData"), ("drop", "dataTransfer")):
        page.evaluate(_DISPATCH, [event, field, encoded])
    assert [card.locator(".name").text_content() for card in finished_cards(page)] == [
        "image.png", "pasted 1.png"]


_DISPATCH = """([type, field, encoded]) => {
  const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "image.png", {type: "image/png"}));
  const event = new Event(type, {bubbles: true, cancelable: true});
  document.dispatchEvent(Object.assign(event, {[field]: transfer}));
}"""


def test_a_dropped_file_that_cannot_be_read_is_shown_and_the_others_are_read(
        client: Client, open_page: OpenPage) -> None:
    page = open_page(client.url)
    page.evaluate(_DROP_FOLDER, base64.b64encode(png("A1")).decode())
    read, failed = finished_cards(page)
    assert read.locator(".name").text_content() == "a.png"
    assert failed.locator(".name").text_content() == "b.png"
    assert "the browser cannot read it" in (failed.text_content() or "")


_DROP_FOLDER = """(encoded) => {
  const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
  const file = new File([bytes], "a.png", {type: "image/png"});
  const parts = [[
    {isFile: true, name: "b.png", file: (resolve, reject) => reject(new Error("not readable"))},
    {isFile: true, name: "a.png", file: (resolve) => resolve(file)}], []];
  const folder = {isDirectory: true, name: "folder", createReader: () => (
    {readEntries: (resolve) => resolve(parts.shift())})};
  const dataTransfer = {items: [{webkitGetAsEntry: () => folder}], files: []};
  const event = new Event("drop", {bubbles: true, cancelable: true});
  document.dispatchEvent(Object.assign(event, {dataTransfer}));
}"""


def test_a_region_of_an_image_is_read(client: Client, open_page: OpenPage) -> None:
    page = open_page(client.url)
    choose(page, ("a.png", drawing.encoded(drawing.word("AB", (100, 50)))))
    page.get_by_role("button", name="Crop").click()
    for key in ("ArrowLeft",) * 9 + ("Shift+ArrowLeft",) * 10:  # 2 % of the image for each key
        page.keyboard.press(key)
    with page.expect_request("**/*:predict") as request:
        page.get_by_role("button", name="Read region").click()
    sent = json.loads(request.value.post_data or "")["inputs"]["b64"]
    assert drawing.opened(base64.b64decode(sent)).size == (60, 20)
    finished_cards(page)
    assert page.locator(".name").first.text_content() == "a.png, region"


@pytest.mark.parametrize("options", [
    {"viewport": {"width": 360, "height": 700}}, {"color_scheme": "dark"}])
def test_the_page_fits_narrow_and_dark_screens(
        client: Client, open_page: OpenPage, options: dict[str, Any]) -> None:
    page = open_page(client.url, **options)
    respond_with(page, ["W"] * 60, [0.5] * 60)
    choose(page, (f"{'long ' * 30}.png", drawing.encoded(drawing.word("WIDE", (900, 40)))))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    colors = page.evaluate(
        "['color', 'backgroundColor'].map((name) => getComputedStyle(document.body)[name])")
    text, ground = (sum(map(int, re.findall(r"\d+", color)[:3])) for color in colors)
    assert (text > ground) == (options.get("color_scheme") == "dark")


def test_a_server_that_stops_is_reported_and_its_image_can_be_read_again(
        client: Client, open_page: OpenPage, page_problems: list[str]) -> None:
    page = open_page(client.url)
    page.route("**/*:predict", lambda route: route.abort())
    (card,) = choose(page, ("a.png", png("A1")))
    assert card.locator(".problem").text_content() == "The server does not respond."
    page.unroute("**/*:predict")
    card.get_by_role("button", name="Retry").click()
    card.locator(".text:not([hidden])").wait_for()
    assert page.locator("#summary").text_content() == "1 read"
    page_problems.clear()
