"""From a figure to SVG text that can stand in a page: no foreign address, no clashing id, the same bytes each time."""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ElementTree

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from indexscope.analysis.plots.address import POINTS_TO_PIXELS, SVG_NAMESPACE
from indexscope.analysis.plots.compact import compact, small_image
from indexscope.analysis.plots.style import (
    BLUE,
    GREEN,
    GRID,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    house_style,
)

_FONTS = "'DejaVu Sans', Verdana, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_HREF = "{http://www.w3.org/1999/xlink}href"
_POINTS_PER_INCH = 72


#: Colours of the house style that a page of another colour scheme changes, and what it calls them.
_THEMED = {
    INK: "ink",
    MUTED: "f-muted",
    GRID: "f-grid",
    BLUE: "f-blue",
    VERMILLION: "f-vermillion",
    GREEN: "f-green",
    PURPLE: "f-purple",
    ORANGE: "f-orange",
    SKY: "f-sky",
}
_VARIABLES = {colour.lower(): f"var(--{name},{colour})" for colour, name in _THEMED.items()}
_COLOUR = re.compile(r"#[0-9a-f]{6}\b", re.I)


def to_svg(
    figure: Figure, identifier: str, title: str, description: str = "", standalone: bool = False, themed: bool = False
) -> str:
    """Draw ``figure`` as SVG text.

    Args:
        figure: A matplotlib figure.
        identifier: Prefix of every id in the picture, unique in the page; letters, digits and dashes.
        title: Name of the picture for screen readers.
        description: What the picture shows, for screen readers.
        standalone: Keep the XML namespace that a file of its own needs; a page needs none.
        themed: Let the page that it stands in change its colours, by variables of its style sheet.

    Returns:
        One ``<svg>`` element: no XML declaration, document type, metadata, style sheet or address.
    """
    buffer = io.StringIO()
    with house_style(**{"svg.hashsalt": identifier}), warnings.catch_warnings():
        # The reader's browser draws the text, and has glyphs that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        _lay_out(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(buffer.getvalue())
    _strip(root)
    _rename(root, identifier)
    compact(root)
    if themed:
        _theme(root)
    _describe(root, identifier, title, description)
    if standalone:
        root.set("xmlns", SVG_NAMESPACE)
    return ElementTree.tostring(root, encoding="unicode")


def _lay_out(figure: Figure) -> None:
    """Find the places of all panels once; savefig alone would draw the whole figure twice for it."""
    FigureCanvasSVG(figure)
    figure.set_dpi(_POINTS_PER_INCH)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def _strip(root: ElementTree.Element) -> None:
    """Drop namespaces, metadata, matplotlib's style sheet (it would style the whole page) and layout white space."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        if element.tag != "text":
            element.text = None
        element.tail = None
        if _HREF in element.attrib:
            element.set("href", small_image(re.sub(r"\s", "", element.attrib.pop(_HREF))))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style") or (child.tag == "defs" and not _keeps(child)):
                parent.remove(child)


def _keeps(definitions: ElementTree.Element) -> bool:
    return any(child.tag not in ("metadata", "style") for child in definitions)


def _rename(root: ElementTree.Element, identifier: str) -> None:
    """Keep only ids that something refers to, number them in order, and shorten numbers to a hundredth of a point."""
    used = {element.get("href", "")[1:] for element in root.iter() if element.get("href", "").startswith("#")}
    for element in root.iter():
        used |= {match for value in element.attrib.values() for match in _REFERENCE.findall(value)}
    names: dict[str, str] = {}
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own in used and own is not None:
            names[own] = f"{identifier}-{len(names)}"
            element.set("id", names[own])
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "href" and value.startswith("#"):
                element.set(key, "#" + names[value[1:]])
            elif key == "style":
                element.set(key, _style(_REFERENCE.sub(lambda match: f"url(#{names[match[1]]})", value)))
            elif key == "clip-path":
                element.set(key, _REFERENCE.sub(lambda match: f"url(#{names[match[1]]})", value))
            elif key == "d":
                element.set(key, " ".join(_NUMBER.sub(_round, value).split()))
            elif key in ("x", "y", "width", "height", "points") or (key == "transform" and "matrix" not in value):
                element.set(key, _NUMBER.sub(_round, value))


def _round(match: re.Match[str]) -> str:
    text = f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _style(style: str) -> str:
    parts = []
    for declaration in style.split(";"):
        key, _, value = declaration.strip().partition(":")
        if key == "font":
            value = re.sub(r"'DejaVu Sans'.*", _FONTS, value)
        if key and key != "font-family":  # the root says it for all
            parts.append(f"{key}:{value.strip()}")
    return ";".join(parts)


def _theme(root: ElementTree.Element) -> None:
    """Name the colours that a page may change; what stands on a cell of a map is white or black, and stays so."""
    for element in root.iter():
        if "style" in element.attrib:
            changed = _COLOUR.sub(lambda match: _VARIABLES.get(match[0].lower(), match[0]), element.attrib["style"])
            element.set("style", changed)


def _describe(root: ElementTree.Element, identifier: str, title: str, description: str) -> None:
    width = float(root.get("viewBox", "0 0 1 1").split()[2])
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{identifier}-title")
    lines = "stroke-linejoin:round;stroke-linecap:butt"
    root.set("style", f"max-width:{width * POINTS_TO_PIXELS:.0f}px;{lines};font-family:{_FONTS}")
    if description:
        element = ElementTree.Element("desc")
        element.text = description
        root.insert(0, element)
    element = ElementTree.Element("title", {"id": f"{identifier}-title"})
    element.text = title
    root.insert(0, element)
