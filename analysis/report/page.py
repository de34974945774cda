"""What pages are made with."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from indexscope.analysis.names import plain
from indexscope.analysis.report.history_rows import sign
from indexscope.analysis.report.numbers import number


@cache
def templates() -> Environment:
    """The templates; only figures drawn here are inserted as they are."""
    found = Environment(
        loader=PackageLoader("indexscope.analysis.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["figure"] = lambda picture: Markup(picture.svg)
    found.filters.update(plain=plain, number=number, sign=sign)
    return found
