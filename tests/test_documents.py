"""Every link of the documents leads somewhere, every command in them can be typed, and the site has every page once."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from typer.core import TyperGroup

from docs.hooks import BROUGHT, linked
from indexscope.flows.cli.main import application
from indexscope.flows.study.load import load_study

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *PAGES,
    *sorted((ROOT / "examples").rglob("*.md")),
]
FENCE = re.compile(r"^(```+).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)


def links(text: str) -> list[str]:
    """What a document links to, code aside."""
    told = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", FENCE.sub("", text))
    return [first or second for first, second in LINK.findall(told)]


def anchors(text: str) -> set[str]:
    """The headings of a document as GitHub writes their anchors; the second of a name ends in -1."""
    seen: Counter[str] = Counter()
    found = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    for heading in re.findall(r"^#+ +(.+?) *#*$", FENCE.sub("", text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def broken(document: Path) -> list[str]:
    """The links of a document to files or headings that are not there."""
    text = document.read_text(encoding="utf-8")
    lost = []
    for link in links(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = document.parent / name if name else document
        inside = target.suffix == ".md" and target.is_file()
        headings = anchors(target.read_text(encoding="utf-8")) if inside else set()
        if not target.exists() or (anchor and anchor not in headings):
            lost.append(link)
    return lost


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    assert broken(document) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text(
        "# Other\n\n## Two: `words`, once\n\n## Again\n\n## Again\n\n```sh\n# no heading\n```\n"
    )
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n[a](other.md) [b](other.md#two-words-once) [c](#page) [d](https://example.org/x#y)\n"
        "[e](other.md#again-1)\n"
        "`[code](nowhere.md)`\n\n```md\n[code](nowhere.md)\n```\n\n"
        "[f](gone.md) [g](other.md#two) ![h](gone.png) [i](#other) [j](other.md#no-heading) [k][k]\n\n"
        "[k]: gone-too.md\n"
    )
    assert broken(page) == ["gone.md", "other.md#two", "gone.png", "#other", "other.md#no-heading", "gone-too.md"]


def leaves(part: Any) -> list[str]:
    """The pages of a navigation, in its order."""
    if isinstance(part, str):
        return [part]
    return [page for inner in (part.values() if isinstance(part, dict) else part) for page in leaves(inner)]


def test_the_navigation_of_the_site_has_every_page_once() -> None:
    # The base loader takes the names of functions, which only mkdocs can load, as they stand.
    navigation = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), yaml.BaseLoader)["nav"]
    assert sorted(leaves(navigation)) == sorted([*(page.name for page in PAGES), *BROUGHT.values()])


def test_the_site_lets_links_lead_to_pages() -> None:
    text = "[a](docs/ci.md#rules) ![b](docs/report.png) [c](benchmarks/README.md#kills) [d](LICENSE) [e](gone.md)\n"
    fenced = "```md\n[a](docs/ci.md)\n```\n"
    moved = "[a](ci.md#rules) ![b](report.png) [c](benchmarks.md#kills) d [e](gone.md)\n"
    assert linked(text + fenced + text, "README.md") == moved + fenced + moved
    assert linked("[a](../README.md) [b](ci.md) [c](#rules) [d](../examples)", "docs/diff.md") == (
        "[a](index.md) [b](ci.md) [c](#rules) d"
    )


def commands(text: str) -> list[str]:
    """The lines of a document's shell blocks that call the command line."""
    blocks = re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("indexscope ")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_in_a_document_can_be_typed(document: Path) -> None:
    group = application()
    assert isinstance(group, TyperGroup)
    for line in commands(document.read_text(encoding="utf-8")):
        _, name, *arguments = shlex.split(line, comments=True)
        group.commands[name].make_context(name, arguments)  # raises for what the command does not take


def test_the_studies_of_the_readme_load_where_their_files_are(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    studies = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [study.count("\n") <= 10 for study in studies[:3]] == [True] * 3
    for name in re.findall(r"[\w/-]+\.(?:jsonl|pt|py)\b", text):
        (tmp_path / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name.lstrip("/")).touch()
    for folder in re.findall(r"/?(models/[\w-]+|dumps/\w+)", text):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for study in studies:
        (tmp_path / "study.yaml").write_text(re.sub(r"(?<=[ \[])/(?=models|data)", f"{tmp_path}/", study))
        assert load_study(tmp_path / "study.yaml").candidates
