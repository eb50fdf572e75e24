"""Figures as SVG for an HTML page: text stays text, ids are unique in the page, colours follow the page's."""

import re
from io import StringIO
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_COLOURS = {"#000000": "currentColor", "#ffffff": "var(--figure-background, #ffffff)"}
"""Black is the page's text, and white, the inside of hollow marks, its background."""


def svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an `<svg>` element for inline use; every id begins with `name`, unique in a page.

    The background is transparent. Black follows the page's `color`; white follows its `--figure-background`.
    """
    drawn = StringIO()
    # Matplotlib derives the ids of clip paths from the salt, and writes the date unless told not to.
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        FigureCanvasSVG(figure).print_svg(drawn, metadata={"Date": None})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(drawn.getvalue())
    for child in list(root):
        if child.tag == f"{{{_SVG}}}metadata":
            root.remove(child)
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, _colours(_own_ids(key, value, name)))
        if element.tag == f"{{{_SVG}}}style":
            element.text = f"#{name}-svg {(element.text or '').strip()}"
    root.attrib |= {"id": f"{name}-svg", "fill": "currentColor", "role": "img"}
    root.set("aria-labelledby", f"{name}-title {name}-description")
    root.set("style", "max-width: 100%; height: auto")
    for place, (tag, text) in enumerate((("title", title), ("description", description))):
        element = ElementTree.Element(f"{{{_SVG}}}{'desc' if tag == 'description' else tag}", id=f"{name}-{tag}")
        element.text = text
        root.insert(place, element)
    return ElementTree.tostring(root, encoding="unicode")


def _own_ids(key: str, value: str, name: str) -> str:
    """The value of an attribute, in which ids and references to them begin with the name."""
    if key == "id":
        return f"{name}-{value}"
    if key in ("href", f"{{{_XLINK}}}href") and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    return value.replace("url(#", f"url(#{name}-")


def _colours(value: str) -> str:
    return re.sub("|".join(_COLOURS), lambda match: _COLOURS[match[0]], value)
