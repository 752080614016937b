"""Headless Chromium, in which tests open the pages that the program writes and serves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

# Debian's package, as playwright would otherwise download a browser of its own.
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
          "--disable-background-networking", "--disable-component-update", "--disable-sync"]
_LOCAL = ("", "localhost", "127.0.0.1")


@contextmanager
def launch() -> Iterator[Browser]:
    """Starts Chromium with a new profile; skips the test where there is none."""
    paths = [path for path in map(shutil.which, _NAMES) if path is not None]
    if not paths:
        pytest.skip("no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=paths[0], args=_FLAGS)
        yield browser
        browser.close()


def watch(page: Page, problems: list[str]) -> None:
    """Adds to `problems` what a page does that it should not.

    These are errors and warnings on its console, uncaught exceptions, and requests that leave the
    machine.
    """
    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            problems.append(f"{message.type}: {message.text}")

    def on_request(request: Request) -> None:
        if (urlsplit(request.url).hostname or "") not in _LOCAL:
            problems.append(f"request: {request.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: problems.append(f"exception: {error}"))
    page.on("request", on_request)
