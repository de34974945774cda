"""What mkdocs is told beyond mkdocs.yml: documents of the repository become pages, and their links follow them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Documents that lie elsewhere for GitHub's sake, and the pages that they are.
BROUGHT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
PICTURES = {f"benchmarks/{name}.png": f"{name}.png" for name in ("extraction", "optimise")}
FENCE = re.compile(r"^((```+).*?^\2[^\n]*$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<picture>!?)\[(?P<words>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents from elsewhere."""
    from mkdocs.structure.files import File

    for source, name in (BROUGHT | PICTURES).items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Let links lead to pages."""
    homes = {name: source for source, name in BROUGHT.items()}
    return linked(markdown, homes.get(page.file.src_uri, f"docs/{page.file.src_uri}"))


def linked(markdown: str, home: str) -> str:
    """A document with its links as the site needs them.

    What is in the repository and not on the site, such as a notebook, keeps its words alone. A link to what is nowhere
    stays, so that mkdocs refuses it.

    Args:
        markdown: The document.
        home: Its path in the repository, which its links are relative to.
    """
    parts = re.split(FENCE, markdown)  # text, fenced block, its ticks, text, ...
    return "".join(
        LINK.sub(lambda link: _moved(link, home), part) if place % 3 == 0 else part
        for place, part in enumerate(parts)
        if place % 3 != 2
    )


def _moved(link: re.Match[str], home: str) -> str:
    target, hash_, anchor = link["target"].partition("#")
    if not target or ":" in target:
        return link[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(home), target))
    name = (BROUGHT | PICTURES).get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else "")
    if not name and (ROOT / path).exists():
        return link["words"]
    return f"{link['picture']}[{link['words']}]({name or target}{hash_}{anchor})"
