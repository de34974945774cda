"""The report in a real browser: a silent console, no request, every control at work, nothing spilling over."""

from __future__ import annotations

import csv
import io
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.report.fixtures import Kind, rendered, report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

PATHS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
CASES: dict[str, Kind] = {
    "small": Kind(layers=4, panels=True),
    "heavy": Kind(layers=61, heads=64, panels=True, indexer_heads=64),
    "dense": Kind(layers=2, candidates=(), dense=("baseline",)),
    "hostile": Kind(
        layers=2,
        heads=2,
        baseline="=<script>alert(1)</script>",
        candidates=("n" * 300, "🚀 emoji", "עברית נموذج", "<img src=x onerror=alert(1)>"),
    ),
}
CLIPPED = """() => [...document.querySelectorAll("figure svg")].flatMap((svg) => {
  const outer = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter((text) => {
    const box = text.getBoundingClientRect();
    return outer.width && (box.left < outer.left - 2 || box.right > outer.right + 2
      || box.top < outer.top - 2 || box.bottom > outer.bottom + 2);
  }).map((text) => `${svg.closest("figure").id}: ${text.textContent}`);
})"""


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
    for name, kind in CASES.items():
        (folder / f"{name}.html").write_text(rendered(kind)["report.html"], encoding="utf-8")
    return folder


def opened(browser: Browser, path: Path, **options: Any) -> tuple[Page, list[str]]:
    """A page whose script has run, and a list that fills with what it complains about or asks for."""
    page = browser.new_page(**{"reduced_motion": "reduce", **options})
    heard: list[str] = []

    def asked(url: str) -> None:
        if url != path.as_uri() and not url.startswith(("data:image/png", "blob:")):
            heard.append(url)

    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: heard.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: asked(request.url))
    page.set_default_timeout(10_000)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    return page, heard


@pytest.fixture(scope="module")
def small(browser: Browser, folder: Path) -> Iterator[tuple[Page, list[str]]]:
    """The small report, open for all tests of its controls."""
    page, heard = opened(browser, folder / "small.html", viewport={"width": 1200, "height": 900})
    yield page, heard
    page.close()


def saved(page: Page, button: Locator) -> tuple[str, str]:
    """Name and text of the file that a button saves."""
    with page.expect_download() as waiting:
        button.click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_text(encoding="utf-8")


def table_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_heavy_report_of_two_models_stays_far_under_five_megabytes(folder: Path) -> None:
    html = (folder / "heavy.html").read_text(encoding="utf-8")
    assert len(html.encode()) < 2_750_000, "four models are to stay under 5 MB"
    assert html.count('<th scope="row" data-sort="60">60</th>') == 2
    assert html.count("Table of 61 layers") == 2


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
    if width == 1200:
        assert page.evaluate(CLIPPED) == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, folder: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.base")
    page, _ = opened(browser, folder / "small.html", viewport={"width": 1200, "height": 900}, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    # The baseline's section and the many definitions have the elements of those looked at; a scheme changes colours.
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if scheme == "dark":
        options["runOnly"] = ["color-contrast", "link-in-text-block"]
    found = page.evaluate(
        "options => axe.run({ exclude: [['#model-1'], ['.definition:nth-of-type(n+6)']] }, options)", options
    )
    told = [
        (violation["id"], violation["impact"], [node["target"] for node in violation["nodes"]][:3])
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
    assert told == []
    assert "color-contrast" in {entry["id"] for entry in found["passes"]}
    assert len(found["passes"]) > (20 if scheme == "light" else 0)
    page.close()


def test_layer_tables_sort_by_number_and_fold_when_long(browser: Browser, folder: Path) -> None:
    page, heard = opened(browser, folder / "heavy.html", viewport={"width": 1200, "height": 900})
    details = page.locator("#model-2 details", has_text="Table of 61 layers")
    table = details.locator("table")
    assert not table.is_visible()
    details.locator("summary").click()
    assert table.is_visible()

    def cells() -> list[float]:
        read = "cells => cells.map(c => c.dataset.sort)"
        return [float(text or "nan") for text in table.locator("tbody tr td:nth-child(2)").evaluate_all(read)]

    written = cells()
    button = table.locator("thead button").nth(1)
    for direction, expected in (
        ("ascending", sorted(written)),
        ("descending", sorted(written, reverse=True)),
        (None, written),
    ):
        button.click()
        assert cells() == expected and len(expected) == 61
        assert table.locator("thead th").nth(1).get_attribute("aria-sort") == direction
    filter_box = details.get_by_label("Filter rows")
    filter_box.fill("zzz")
    assert details.locator("output").inner_text() == "0 of 61 rows"
    filter_box.fill("")
    assert table.locator("tbody tr:visible").count() == 61
    assert heard == []
    page.close()


def test_paper_shows_what_was_folded(browser: Browser, folder: Path) -> None:
    page, heard = opened(browser, folder / "dense.html")
    page.evaluate("""() => {
      document.querySelectorAll("details").forEach((part) => { part.open = false; });
      addEventListener("beforeprint", () => {
        window.onPaper = document.querySelectorAll("details:not([open])").length;
      });
    }""")
    assert page.pdf().startswith(b"%PDF") and heard == []
    assert page.evaluate("window.onPaper") == 0
    assert page.locator("details:not([open])").count() > 0  # folded again afterwards
    page.emulate_media(media="print")
    assert not page.locator(".tools:visible, .explorer:visible, .sort:visible, nav:visible").count()
    page.close()


def test_written_numbers_sort_by_what_they_mean(small: tuple[Page, list[str]]) -> None:
    page, _ = small
    texts = ["−1.5", "4.8\u202fM", "1.2\u202f×\u202f10⁻⁵", "12,345", "+0.5 (0 to 1)", "62\u202f%", "520\u202fG"]
    found = page.evaluate("texts => texts.map(leading)", texts)
    assert found == pytest.approx([-1.5, 4.8e6, 1.2e-5, 12345, 0.5, 62, 520e9])
    assert page.evaluate("texts => texts.map(leading).every(isNaN)", ["layer 3", "–", "k for 4"])


def test_a_table_with_groups_filters_and_sorts_its_rows(small: tuple[Page, list[str]]) -> None:
    page, heard = small
    tools = page.locator("#comparison-1 ~ .tools").first
    table = page.locator("#comparison-1 ~ .scroll table").first
    tools.get_by_label("Filter rows").fill("selection_recall")
    shown = table.locator("tbody tr:visible:not(.group) th").all_inner_texts()
    assert shown and all("selection_recall" in text for text in shown)
    assert table.locator("tbody tr.group:visible").count() == 1
    tools.get_by_label("Filter rows").fill("")
    table.get_by_role("button", name="Sort by n").click()
    assert table.locator("tbody tr").last.get_attribute("class") == "group"
    assert heard == []


def test_a_figure_saves_its_rows_and_its_picture(small: tuple[Page, list[str]]) -> None:
    page, heard = small
    figure = page.locator("#figure-study-recall")
    name, text = saved(page, figure.get_by_role("button", name="Save the data as CSV"))
    assert name == "indexscope-study-recall.csv"
    rows = [row for row in table_of(text) if row["panel"] == "light" and row["series"] == "selection"]
    frame = report(CASES["small"]).metrics.filter(model="light", metric="selection_recall").drop_nulls("layer")
    for written, row in zip(rows, frame.sort("layer").iter_rows(named=True), strict=True):
        for column in ("layer", "value", "ci_low", "ci_high", "n"):
            assert float(written[column]) == pytest.approx(row[column], rel=1e-5)
        assert written["unit"] == "share"
    name, text = saved(page, figure.get_by_role("button", name="Save as SVG"))
    root = ElementTree.fromstring(text)
    assert name == "indexscope-study-recall.svg"
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.get("width") == "662.4pt"
    drawn = [element for element in root.iter() if element.tag.endswith("}text")]
    assert any("dense attention mass kept" in "".join(element.itertext()) for element in drawn)
    assert not [element for element in root.iter() if element.get("class") == "mark"]
    assert heard == []


def test_marks_are_read_by_mouse_by_key_by_touch_and_by_button(small: tuple[Page, list[str]]) -> None:
    page, heard = small
    figure, tip = page.locator("#figure-study-recall"), page.locator("#tip")
    canvas = figure.locator(".canvas")
    canvas.scroll_into_view_if_needed()
    canvas.focus()
    page.keyboard.press("Home")
    assert tip.is_visible() and "layer: 0" in tip.inner_text() and "share" in tip.inner_text()
    page.keyboard.press("ArrowRight")
    assert "layer: 1" in tip.inner_text()
    assert "2 of " in figure.locator("output").inner_text() and "layer: 1" in figure.locator("output").inner_text()
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    figure.get_by_role("button", name="Next value").click()
    assert "layer: 2" in tip.inner_text()
    at = figure.locator(".mark").bounding_box()
    assert at is not None
    page.mouse.move(at["x"] + 200, at["y"] + 2000)
    page.mouse.move(at["x"] + 4, at["y"] + 4)
    assert "layer: 2" in tip.inner_text() and figure.locator(".mark").count() == 1
    page.keyboard.press("Escape")
    canvas.dispatch_event("pointerdown", {"clientX": at["x"] + 4, "clientY": at["y"] + 4, "pointerType": "touch"})
    assert tip.is_visible() and "layer: 2" in tip.inner_text()
    assert heard == []


def test_a_layer_and_a_head_are_chosen(small: tuple[Page, list[str]]) -> None:
    page, heard = small
    given = report(CASES["small"])
    explorer = page.locator("#model-2 .explorer")
    explorer.locator("#model-2-layer").select_option("2")
    explorer.locator("#model-2-head").select_option("5")
    charts = explorer.locator(".charts figure")
    titles = charts.locator("figcaption strong").all_inner_texts()
    assert titles[0].startswith("Index scores") and len(titles) == len(set(titles)) >= 5
    assert all("layer 2" in (label or "") for label in charts.locator("svg").evaluate_all(
        "all => all.map(svg => svg.getAttribute('aria-label'))"
    ))  # fmt: skip
    heads = charts.filter(has_text="Attention heads of the layer")
    _, text = saved(page, heads.get_by_role("button", name="Save the data as CSV"))
    by_head = given.models[1].analyses["distribution"]["by_head"].filter(layer=2, metric="head_recall")
    written = [float(row["value"]) for row in table_of(text) if row["series"] == "head_recall"]
    assert written == pytest.approx(by_head.sort("head")["value"].to_list(), rel=1e-3)
    assert heads.locator('circle[r="5"]').count() == 2  # the chosen head, of two metrics
    explorer.locator("summary").click()
    recall = given.metrics.filter(model="light", metric="selection_recall", layer=2)["value"][0]
    row = explorer.locator("tbody tr", has_text="selection_recall").first
    assert f"{recall:.4g}" in row.inner_text()
    explorer.get_by_role("button", name="Next layer").click()
    assert "layer 3" in explorer.locator("caption").inner_text()
    assert "Layer 3" in explorer.locator(".passage").inner_text()
    assert heard == []


def test_a_metric_leads_to_its_definition_and_back(small: tuple[Page, list[str]]) -> None:
    page, heard = small
    page.locator("#key-selection_recall a").click()
    assert page.evaluate("location.hash") == "#def-selection_recall"
    definition = page.locator("#def-selection_recall")
    assert definition.locator("dd", has_text="Formula").is_visible()
    definition.get_by_role("link", name="metrics of light").click()
    assert page.locator("#model-2-selection_recall").is_visible()  # its table was folded
    assert heard == []


def test_hostile_names_are_text_on_the_page_and_in_what_is_saved(browser: Browser, folder: Path) -> None:
    page, heard = opened(browser, folder / "hostile.html", viewport={"width": 1200, "height": 900})
    assert "<script>alert(1)</script>" in page.locator("#model-1 h2").inner_text()
    figure = page.locator("#figure-study-recall")
    name, text = saved(page, figure.get_by_role("button", name="Save the data as CSV"))
    panels = {row["panel"] for row in table_of(text)}
    assert name == "indexscope-study-recall.csv"
    assert panels == {"'=<script>alert(1)</script>", *CASES["hostile"].candidates}
    _, svg = saved(page, figure.get_by_role("button", name="Save as SVG"))
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg).iter()}
    assert not tags & {"script", "img", "foreignObject"}
    figure.get_by_role("button", name="Next value").click()
    assert "<script>alert(1)</script>" in page.locator("#tip").inner_text()
    assert set(page.locator("#tip *").evaluate_all("all => all.map(e => e.tagName)")) == {"STRONG", "SPAN"}
    formulas = ["=1+1", "+1", "-1", "@x", "\tx", 'a"b,c\nd', -1.5, None]
    fields = page.evaluate("values => values.map(field)", formulas)
    assert fields == ['"\'=1+1"', '"\'+1"', '"\'-1"', '"\'@x"', '"\'\tx"', '"a""b,c\nd"', "-1.5", ""]
    assert heard == []
    page.close()


def test_without_its_script_the_page_is_complete(browser: Browser, folder: Path) -> None:
    page = browser.new_page(java_script_enabled=False, viewport={"width": 1200, "height": 900})
    page.goto((folder / "small.html").as_uri())
    assert page.locator("#figure-study-recall svg").is_visible()
    assert page.locator(".explorer").first.is_hidden()
    assert page.locator("main button, main input, main select").count() == 0
    page.close()
