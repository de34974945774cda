"""The report in a real browser: a silent console, no request, every control at work, nothing spilling over."""

from __future__ import annotations

import csv
import io
import os
import re
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
    "many": Kind(layers=61, heads=64, candidates=("a", "b", "c", "d")),
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


def opened(browser: Browser, path: Path, at: str = "", **options: Any) -> tuple[Page, list[str]]:
    """A page whose script has run, and a list that fills with what it complains about or asks for."""
    page = browser.new_page(**{"reduced_motion": "reduce", **options})
    heard: list[str] = []

    def asked(url: str) -> None:
        if url.partition("#")[0] != path.as_uri() and not url.startswith(("data:image/png", "blob:")):
            heard.append(url)

    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: heard.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: asked(request.url))
    page.set_default_timeout(10_000)
    page.goto(f"{path.as_uri()}#{at}" if at else path.as_uri())
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
    assert html.count("(61 layers)") == 2


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
    assert page.locator("svg").count() > 0
    if width == 1200:
        assert page.evaluate(CLIPPED) == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, folder: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.base")
    page, _ = opened(browser, folder / "small.html", viewport={"width": 1200, "height": 900}, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    page.locator("details", has_text="Look closer").first.locator("svg").first.wait_for()
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    # The many definitions have the elements of those looked at; a scheme changes colours.
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if scheme == "dark":
        options["runOnly"] = ["color-contrast", "link-in-text-block"]
    found = page.evaluate("options => axe.run({ exclude: [['.definition:nth-of-type(n+6)']] }, options)", options)
    told = [
        (violation["id"], violation["impact"], [node["target"] for node in violation["nodes"]][:3])
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
    assert told == []
    assert "color-contrast" in {entry["id"] for entry in found["passes"]}
    assert len(found["passes"]) > (20 if scheme == "light" else 0)
    page.close()


def test_layer_tables_sort_by_number_and_filter(browser: Browser, folder: Path) -> None:
    page, heard = opened(browser, folder / "heavy.html", viewport={"width": 1200, "height": 900})
    details = page.locator("#model-2")
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


@pytest.mark.parametrize(("case", "most"), [("small", 12_000), ("heavy", 12_000), ("many", 20_000)])
def test_a_report_is_short_as_it_opens(browser: Browser, folder: Path, case: str, most: int) -> None:
    page, _ = opened(browser, folder / f"{case}.html", viewport={"width": 1300, "height": 900})
    assert page.evaluate("document.documentElement.scrollHeight") <= most
    page.close()


def test_the_first_screen_says_it(browser: Browser, folder: Path) -> None:
    page, _ = opened(browser, folder / "small.html", viewport={"width": 1300, "height": 900})
    for part in (
        "#verdict-title",
        "#overview .badge.level",
        "#overview .pair figure >> nth=0",
        "#overview .pair figure >> nth=1",
    ):
        box = page.locator(part).bounding_box()
        assert box is not None and box["y"] + box["height"] <= 900, part
    page.close()


def test_paper_gets_every_figure_and_no_more_than_twenty_pages(browser: Browser, folder: Path) -> None:
    page, heard = opened(browser, folder / "small.html")
    page.evaluate("""() => addEventListener("beforeprint", () => {
      window.onPaper = document.querySelectorAll(".more-figure:not([open])").length;
    })""")
    paper = page.pdf(format="A4")
    assert heard == [] and page.evaluate("window.onPaper") == 0
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 20
    assert page.locator(".more-figure:not([open])").count() > 0  # folded again afterwards
    page.emulate_media(media="print")
    hidden = ".tools:visible, .side:visible, .sort:visible, nav:visible, details:not([open]):visible"
    assert not page.locator(hidden).count()
    page.close()


def test_written_numbers_sort_by_what_they_mean(small: tuple[Page, list[str]]) -> None:
    page, _ = small
    texts = ["−1.5", "4.8\u202fM", "1.2\u202f×\u202f10⁻⁵", "12,345", "+0.5 (0 to 1)", "62\u202f%", "520\u202fG"]
    found = page.evaluate("texts => texts.map(leading)", texts)
    assert found == pytest.approx([-1.5, 4.8e6, 1.2e-5, 12345, 0.5, 62, 520e9])
    assert page.evaluate("texts => texts.map(leading).every(isNaN)", ["layer 3", "–", "k for 4"])


def test_a_table_with_groups_filters_and_sorts_its_rows(small: tuple[Page, list[str]]) -> None:
    page, heard = small
    page.locator("#comparison-1 > summary").click()
    tools = page.locator("#comparison-1 .tools").first
    table = page.locator("#comparison-1 table").first
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
    rows = [row for row in table_of(text) if row["series"] == "light"]
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
    assert any("attention kept" in "".join(element.itertext()) for element in drawn)
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


def test_a_model_a_layer_and_a_head_are_chosen_once_for_the_page(browser: Browser, folder: Path) -> None:
    page, heard = opened(browser, folder / "small.html", viewport={"width": 1200, "height": 900})
    given = report(CASES["small"])
    view = page.locator(".view")
    assert view.get_by_label("Model").locator("option").all_inner_texts() == ["baseline", "light"]
    assert view.get_by_label("Model", exact=True).input_value() == "model-2", "the candidate is shown first"
    view.get_by_label("Layer", exact=True).select_option("2")
    view.get_by_label("Head", exact=True).select_option("5")
    misses = page.locator('.explorer[data-chapter="misses"]')
    misses.locator("summary").click()
    assert misses.locator("summary").inner_text() == "Look closer: light, layer 2"
    heads = misses.locator(".charts figure", has_text="Attention heads of the layer")
    assert "layer 2" in (heads.locator("svg").get_attribute("aria-label") or "")
    by_head = given.models[1].analyses["distribution"]["by_head"].filter(layer=2, metric="head_recall")

    def written() -> list[float]:
        _, text = saved(page, heads.get_by_role("button", name="Save the data as CSV"))
        return [float(row["value"]) for row in table_of(text) if row["series"] == "head recall"]

    assert written() == pytest.approx(by_head.sort("head")["value"].to_list(), rel=1e-3)
    assert heads.locator('circle[r="5"]').count() == 2  # the chosen head, of two metrics
    page.locator(".layer-numbers > summary").click()
    recall = given.metrics.filter(model="light", metric="selection_recall", layer=2)["value"][0]
    row = page.locator(".layer-numbers tbody tr", has_text="selection_recall").first
    assert f"{recall:.4g}" in row.inner_text()
    view.get_by_role("button", name="Next layer").click()
    assert "layer 3" in page.locator(".layer-numbers caption").inner_text()
    assert "layer 3" in (heads.locator("svg").get_attribute("aria-label") or "")
    view.get_by_label("Model", exact=True).select_option("model-1")
    assert misses.locator("summary").inner_text() == "Look closer: baseline, layer 3"
    assert page.locator('.of-model[data-model="model-2"]:visible').count() == 0
    assert page.locator('.of-model[data-model="model-1"]:visible').count() > 0
    assert heard == []
    page.close()


def test_the_address_holds_the_choice_and_gives_it_back(browser: Browser, folder: Path) -> None:
    page, heard = opened(browser, folder / "small.html", viewport={"width": 1200, "height": 900})
    page.locator("nav a", has_text="What does it miss?").click()
    page.wait_for_function("document.querySelector('nav [aria-current]').textContent === 'What does it miss?'")
    page.locator(".view").get_by_label("Model", exact=True).select_option("model-1")
    page.locator(".view").get_by_label("Layer", exact=True).select_option("3")
    address = page.evaluate("location.href")
    assert address.endswith("#misses&model=baseline&layer=3&head=0")
    page.close()
    other, heard = opened(browser, folder / "small.html", at=address.partition("#")[2])
    assert other.locator("#choose-model").input_value() == "model-1"
    assert other.locator("#choose-layer").input_value() == "3"
    box = other.locator("#misses").bounding_box()
    assert box is not None and -40 <= box["y"] <= 200
    assert heard == []
    other.close()


def test_charts_of_a_whole_model_are_maps_that_can_be_read(browser: Browser, folder: Path) -> None:
    page, heard = opened(browser, folder / "small.html", viewport={"width": 1200, "height": 900})
    found = page.evaluate("""() => {
      const figure = make("figure", { id: "figure-made" }, make("div", { class: "canvas" }));
      document.querySelector("main").append(figure);
      const columns = { layer: [0, 0, 1, 1], head: [0, 1, 0, 1], loss: [0, 0.5, null, -1] };
      const axes = { x: "layer", y: "head", shade: "loss", middle: 0, labels: "" };
      const chart = { kind: "map", title: "Made", columns, layered: false, ...axes };
      const rows = charted(figure, chart, 0, 0);
      const cells = [...figure.querySelectorAll("rect")].slice(0, 3);
      const all = (name) => cells.map((cell) => cell.getAttribute(name));
      const square = all("width").every((wide, at) => wide === all("height")[at]);
      return { fills: all("fill"), square, loss: rows.parts[0].columns.loss };
    }""")
    assert found["loss"] == [0, 0.5, -1], "cells without a value are left out"
    assert found["fills"] == ["rgb(247 251 255)", "rgb(128 158 192)", "rgb(166 54 3)"]
    assert found["square"], "a map of a thing against itself is square"
    assert heard == []
    page.close()


def test_search_finds_metrics_figures_and_questions(small: tuple[Page, list[str]]) -> None:
    page, heard = small
    box = page.locator("#search")
    box.fill("recall")
    names = page.locator(".found a").all_inner_texts()
    assert any("selection_recall" in name and "metric" in name for name in names)
    box.fill("what does it cost")
    assert page.locator(".found a").first.get_attribute("href") == "#costs"
    box.fill("selection recall metric that nobody measured")
    assert page.locator(".view output").inner_text() == "Nothing found"
    box.fill("selection_recall")
    box.press("Enter")
    assert page.locator("#def-selection_recall").is_visible()
    box.press("Escape")
    assert page.locator(".found a").count() == 0 and heard == []


def test_a_metric_leads_to_its_definition_and_back(small: tuple[Page, list[str]]) -> None:
    page, heard = small
    page.locator("#numbers summary", has_text="Key numbers").click()
    page.locator("#key-selection_recall a").click()
    assert page.evaluate("location.hash") == "#def-selection_recall"
    definition = page.locator("#def-selection_recall")
    assert definition.locator("dd", has_text="Formula").is_visible()
    definition.get_by_role("link", name="metrics of all models").click()
    assert page.locator("#all-selection_recall").is_visible()  # its table was folded
    assert heard == []


def test_hostile_names_are_text_on_the_page_and_in_what_is_saved(browser: Browser, folder: Path) -> None:
    page, heard = opened(browser, folder / "hostile.html", viewport={"width": 1200, "height": 900})
    assert "<script>alert(1)</script>" in page.locator("#model-1 summary").text_content()
    assert "=<script>alert(1)</script>" in page.locator("#choose-model option").all_inner_texts()
    page.locator("#choose-model").select_option("model-3")
    assert page.evaluate("address().given.get('model')") == "🚀 emoji"
    figure = page.locator("#figure-study-recall")
    name, text = saved(page, figure.get_by_role("button", name="Save the data as CSV"))
    series = {row["series"] for row in table_of(text) if "choice" not in row["series"]}
    assert name == "indexscope-study-recall.csv"
    assert series == {"'=<script>alert(1)</script>", *CASES["hostile"].candidates}
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
    assert page.locator(".explorer").first.is_hidden() and page.locator(".view").is_hidden()
    assert page.locator("main button, main input, main select").count() == 0
    page.close()
