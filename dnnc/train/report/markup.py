"""Markup that is escaped by construction: elements are made from names, attributes and content."""

from __future__ import annotations

import html
from collections.abc import Iterable

__all__ = ["Markup", "element", "join", "text"]


class Markup(str):
    """Text that is markup already. A plain `str` given as content is escaped."""

    __slots__ = ()


def element(name: str, *content: str, **attributes: object) -> Markup:
    """`<name attributes>content</name>`; in names of attributes `_` stands for `-`."""
    shown = "".join(
        f' {_attribute(key)}="{html.escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{shown}>{join(content)}</{name}>")


def join(parts: Iterable[str], separator: str = "") -> Markup:
    """Parts one after the other."""
    return Markup(separator.join(map(text, parts)))


def text(content: str) -> Markup:
    """Content as markup, escaped unless it is that already."""
    return content if isinstance(content, Markup) else Markup(html.escape(content))


def _attribute(key: str) -> str:
    # SVG's own names with capitals, such as viewBox, pass unchanged.
    return key.rstrip("_").replace("_", "-")


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
