"""The report in a real browser: a silent console, no request, the verdict in view, nothing spilling over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from analysis.report import render
from tests.report.fixtures import report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATHS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
CASES: dict[str, dict[str, Any]] = {
    "small": {"layers": 4},
    "heavy": {"layers": 61, "heads": 64, "candidates": ("light", "half-rank", "fp8-scores")},
    "dense": {"candidates": (), "dense": ("baseline",)},
    "hostile": {
        "baseline": "<script>alert(1)</script>",
        "candidates": ("n" * 300, "🚀 emoji", "עברית نموذج", "<img src=x onerror=alert(1)>"),
    },
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all tests of this file."""
    path = next((path for path in PATHS if Path(path).exists()), None)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium: install the package chromium")
        pytest.skip("no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports as files."""
    folder = tmp_path_factory.mktemp("reports")
    for name, changes in CASES.items():
        (folder / f"{name}.html").write_text(render(report(**changes))["report.html"], encoding="utf-8")
    return folder


def opened(browser: Browser, path: Path, **options: Any) -> tuple[Page, list[str]]:
    """A page and what it complained about or asked for."""
    page = browser.new_page(**options)
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: heard.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: heard.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    return page, [entry for entry in heard if not entry.startswith("data:image/png")]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_a_report_opens_clean_with_its_verdict_in_view(
    browser: Browser, folder: Path, case: str, width: int, scheme: str
) -> None:
    page, heard = opened(
        browser, folder / f"{case}.html", viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    assert heard == []
    box = page.locator("#verdict-title").bounding_box()
    assert page.locator("#verdict-title").is_visible()
    assert box is not None and box["y"] + box["height"] < 900
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg").count() > 2
    page.close()


@pytest.mark.parametrize("case", CASES)
def test_no_text_of_a_figure_is_clipped(browser: Browser, folder: Path, case: str) -> None:
    page, _ = opened(browser, folder / f"{case}.html", viewport={"width": 1200, "height": 900})
    clipped = page.evaluate(
        """() => [...document.querySelectorAll("svg")].flatMap((svg) => {
          const outer = svg.getBoundingClientRect();
          return [...svg.querySelectorAll("text")].filter((text) => {
            const box = text.getBoundingClientRect();
            return box.left < outer.left - 2 || box.right > outer.right + 2
              || box.top < outer.top - 2 || box.bottom > outer.bottom + 2;
          }).map((text) => text.textContent);
        })"""
    )
    assert clipped == []
    page.close()


def test_layer_tables_sort_by_number_and_fold_when_long(browser: Browser, folder: Path) -> None:
    page, heard = opened(browser, folder / "heavy.html", viewport={"width": 1200, "height": 900})
    table = page.locator("#model-2 table.sortable")
    assert not table.is_visible()
    page.locator("#model-2 summary", has_text="61 layers").click()
    assert table.is_visible()
    table.locator("thead button").nth(1).click()
    cells = [
        float(text or "nan")
        for text in table.locator("tbody tr td:nth-child(2)").evaluate_all("cells => cells.map(c => c.dataset.sort)")
    ]
    assert cells == sorted(cells) and len(cells) == 61
    assert table.locator("thead th").nth(1).get_attribute("aria-sort") == "ascending"
    assert heard == []
    page.close()


def test_paper_shows_what_was_folded(browser: Browser, folder: Path) -> None:
    page, heard = opened(browser, folder / "heavy.html")
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF") and heard == []
    assert page.locator("details:not([open])").count() > 0  # folded again afterwards
    page.close()
