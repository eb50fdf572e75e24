"""Matplotlib's SVG images as parts of an HTML page."""

import re
from html import escape

_BEFORE = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_HIDDEN = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_ID = re.compile(r'\bid="|href="#|url\(#')
_SIZE = re.compile(r'<svg\b[^>]*?viewBox="([^"]*)"[^>]*>')
_COLOURS = {": #000000": ": currentColor", ": #ffffff": ": var(--page)"}


def inline(svg: str, key: str, title: str) -> str:
    """The image for a page: ids begin with `key`; black and white are the page's colours of text and background.

    Its size follows the page, and a screen reader reads `title`.
    """
    image = _TAG.sub(lambda tag: _adapted(tag[0], key), _HIDDEN.sub("", _BEFORE.sub("", svg)))
    name = f"{key}-title"
    head = f'<svg role="img" fill="currentColor" aria-labelledby="{name}" viewBox="{{}}">'
    return _SIZE.sub(lambda tag: f'{head.format(tag[1])}<title id="{name}">{escape(title)}</title>', image, count=1)


def _adapted(tag: str, key: str) -> str:
    for colour, own in _COLOURS.items():
        tag = tag.replace(colour, own)
    return _ID.sub(lambda match: f"{match[0]}{key}-", tag)
