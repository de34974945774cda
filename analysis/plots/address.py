"""A picture that is drawn as an address that Markdown can hold; matplotlib is not needed for it."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree

SVG_NAMESPACE = "http://www.w3.org/2000/svg"
POINTS_TO_PIXELS = 1.6
_VARIABLE = re.compile(r"var\(--[\w-]+,(#\w+)\)")
"""A colour that a page may change: here it is that of paper."""


def as_image(svg: str) -> str:
    """A drawn picture as a ``data:`` address, on white and in its own size, for pages of any colour.

    Args:
        svg: One ``<svg>`` element with a view box, as `indexscope.analysis.plots.svg.to_svg` gives it.
    """
    root = ElementTree.fromstring(_VARIABLE.sub(r"\1", svg))
    width, height = (float(number) * POINTS_TO_PIXELS for number in root.get("viewBox", "0 0 1 1").split()[2:])
    root.set("xmlns", SVG_NAMESPACE)
    root.set("width", f"{width:.0f}")
    root.set("height", f"{height:.0f}")
    root.set("style", f"{root.get('style', '')};background:#fff")
    return "data:image/svg+xml;base64," + base64.b64encode(ElementTree.tostring(root)).decode()
