"""The command figure: any figure of a finished study as a file, in the size that was asked for."""

from __future__ import annotations

import shutil
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import polars as pl
import pytest

from indexscope.storage.store.store import Store
from indexscope.storage.studies.finished import open_finished
from tests.flows.conftest import Run, run_command


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> None:
    """Here figures are drawn."""


@pytest.fixture(scope="module")
def finished(first_run: tuple[Path, Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study; no test of this module changes it."""
    return Path(shutil.copytree(first_run[0], tmp_path_factory.mktemp("figure") / "study"))


def drawn(finished: Path, out: Path, *more: object) -> bytes:
    run = run_command("figure", finished / "study.yaml", *more, "--out", out)
    assert (run.code, run.out) == (0, [str(out)]), run.err
    assert not list(out.parent.glob("*.part"))
    return out.read_bytes()


def test_all_figures_are_listed_with_the_models_that_they_can_be_of(finished: Path) -> None:
    run = run_command("figure", finished / "study.yaml")
    names = {line.split()[0]: line for line in run.out}
    assert run.code == 0 and len(names) == len(run.out) > 10
    assert "--model" not in names["recall"] and names["heads"].endswith("(--model base | light)")


def test_the_rows_of_a_figure_are_those_of_the_stored_results(finished: Path, tmp_path: Path) -> None:
    drawn(finished, tmp_path / "recall.csv", "recall")
    written = pl.read_csv(tmp_path / "recall.csv")
    run = open_finished(str(finished / ".indexscope"), None, "")
    metrics = run.tables("light")["distribution.metrics"]
    expected = metrics.filter(pl.col("metric") == "selection_recall", pl.col("layer").is_not_null()).sort("layer")
    values = written["value"].to_list()
    assert expected.height == 2
    assert all(any(value == pytest.approx(one) for one in values) for value in expected["value"])


@pytest.mark.parametrize(("width", "wide"), [("column", 89), ("page", 183), ("120", 120)])
def test_an_svg_has_the_width_that_was_asked_for(finished: Path, tmp_path: Path, width: str, wide: float) -> None:
    root = ElementTree.fromstring(drawn(finished, tmp_path / "x.svg", "recall", "--width", width))
    assert root.tag.endswith("svg") and root.get("width") == f"{wide:.1f}mm"
    box = [float(number) for number in (root.get("viewBox") or "").split()]
    assert box[2] / 72 * 25.4 == pytest.approx(wide, rel=1e-3)
    assert "var(" not in ElementTree.tostring(root, encoding="unicode")


def test_a_pdf_embeds_its_letters_and_a_png_has_the_pixels_of_its_size(finished: Path, tmp_path: Path) -> None:
    pdf = drawn(finished, tmp_path / "x.pdf", "recall", "--width", "89")
    assert pdf.startswith(b"%PDF") and b"/FontFile2" in pdf and b"/Type3" not in pdf
    assert pdf == drawn(finished, tmp_path / "y.pdf", "recall", "--width", "89"), "the same figure, the same bytes"
    png = drawn(finished, tmp_path / "x.PNG", "recall", "--width", "89", "--height", "50")
    assert struct.unpack(">II", png[16:24]) == pytest.approx((89 / 25.4 * 300, 50 / 25.4 * 300), abs=1)


def test_a_figure_of_one_model_is_of_the_model_that_is_named(finished: Path, tmp_path: Path) -> None:
    drawn(finished, tmp_path / "heads.csv", "heads", "--model", "light")
    heads = pl.read_csv(tmp_path / "heads.csv").filter(pl.col("panel").str.contains("head_recall"))
    by_head = open_finished(str(finished / ".indexscope"), None, "").tables("light")["distribution.by_head"]
    own = by_head.filter(pl.col("metric") == "head_recall").sort("layer", "head")
    assert heads.sort("layer", "head")["value"].to_list() == pytest.approx(own["value"].to_list())


def test_a_report_is_drawn_from_the_store_that_holds_its_results(finished: Path, tmp_path: Path) -> None:
    report, out = finished / "reports" / "tiny", tmp_path / "x.csv"
    run = run_command("figure", report, "recall", "--store", finished / ".indexscope", "--out", out)
    assert run.code == 0 and out.read_bytes() == drawn(finished, tmp_path / "y.csv", "recall")
    missing = run_command("figure", report, "recall", "--store", tmp_path / "nowhere", "--out", out)
    assert missing.code == 2 and "name their store with --store" in missing.err[0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["recal", "--out", "x.pdf"], "did you mean 'recall'?"),
        (["recall"], "--out: is missing"),
        (["recall", "--out", "x.gif"], "end it in .pdf, .svg, .png, .csv"),
        (["recall", "--out", "nowhere/x.pdf"], "is no folder"),
        (["recall", "--out", "x.pdf", "--width", "wide"], "give mm, or one of column, text, page"),
        (["recall", "--out", "x.pdf", "--width", "nan"], "is no size to draw"),
        (["recall", "--out", "x.pdf", "--height", "5"], "give 20 to 1000 mm"),
        (["recall", "--out", "x.pdf", "--model", "light"], "leave --model out"),
        (["heads", "--out", "x.pdf"], "choose it with --model: base, light"),
        (["heads", "--out", "x.pdf", "--model", "heavy"], "choose one of base, light"),
        (["--out", "x.pdf"], "name the figure before it"),
    ],
)
def test_what_is_wrong_ends_in_one_line_and_leaves_no_file(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_command("figure", finished / "study.yaml", *arguments)
    assert run.code == 2 and run.out == [] and len(run.err) == 1 and told in run.err[0]
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_has_run_is_one_line(folder: Path) -> None:
    run = run_command("figure", folder / "study.yaml", "recall", "--out", folder / "x.pdf")
    assert run.code == 2 and len(run.err) == 1 and Store(folder / ".indexscope").url in run.err[0]


def test_a_file_that_cannot_be_written_is_one_line_and_leaves_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as part:
            part.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    run = run_command("figure", finished / "study.yaml", "recall", "--out", tmp_path / "x.csv")
    assert run.code == 2 and len(run.err) == 1 and "No space left on device" in run.err[0]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x.pdf").mkdir()
    run = run_command("figure", finished / "study.yaml", "recall", "--out", tmp_path / "x.pdf")
    assert run.code == 2 and "is a folder" in run.err[0]


def test_results_that_were_collected_are_one_line(done: Path, tmp_path: Path) -> None:
    shutil.rmtree(done / ".indexscope" / "profiles")
    run = run_command("figure", done / "study.yaml", "recall", "--out", tmp_path / "x.csv")
    assert run.code == 2 and len(run.err) == 1, run.err
    shutil.rmtree(done / ".indexscope" / "analyses")
    run = run_command("figure", done / "study.yaml", "recall", "--out", tmp_path / "x.csv")
    assert run.code == 2 and len(run.err) == 1, run.err
