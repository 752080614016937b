"""Test of the browser that tests of pages use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_the_browser_reports_errors_exceptions_and_requests_elsewhere(
        open_page: Callable[..., Page], page_problems: list[str], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<img src='http://example.invalid/a.png'><p>text</p>"
                    "<script>console.error('one'); throw new Error('two')</script>")
    page = open_page(path.as_uri(), viewport={"width": 400, "height": 300})
    assert page.locator("p").inner_text() == "text"
    assert page_problems[0].startswith("request: http://example.invalid/")
    assert {"error: one", "exception: two"} < set(page_problems)
    page_problems.clear()
