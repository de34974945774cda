"""A report's page in the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from indexscope import IndexscopeError


def need_browser() -> None:
    """Refuse where there is none, before a report is made for it.

    Raises:
        IndexscopeError: No browser can be started here.
    """
    try:
        webbrowser.get()
    except webbrowser.Error as error:
        reason = "no browser can be started here"
        raise IndexscopeError("--open", reason, "set BROWSER, or open report.html in the folder yourself") from error


def open_page(folder: str) -> None:
    """Open report.html of a folder.

    Raises:
        IndexscopeError: The folder is in a bucket, or the browser did not start.
    """
    if "://" in folder:
        raise IndexscopeError("--open", f"{folder} is no folder of this machine", "copy report.html from there")
    page = Path(folder, "report.html").resolve()
    if not webbrowser.open(page.as_uri()):
        raise IndexscopeError("--open", "the browser did not start", f"open {page} yourself")
