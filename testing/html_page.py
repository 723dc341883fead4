"""A parsed HTML page: its elements and its text."""

from __future__ import annotations

from html.parser import HTMLParser

__all__ = ["HtmlPage"]

_VOID = {"meta", "img", "br", "hr", "link", "input"}
"""Elements that are never closed."""


class HtmlPage(HTMLParser):
    """Collects elements and text; fails on tags that do not nest.

    Args:
        text: The page.

    Attributes:
        elements: Name and attributes of each element, in order.
        pieces: The text between tags, outside of elements ``style``.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element without content."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Checks that the innermost element ends."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Notes text."""
        if self._open and self._open[-1] != "style":
            self.pieces.append(data)

    @property
    def text(self) -> str:
        """The text as it stands."""
        return "".join(self.pieces)

    @property
    def words(self) -> str:
        """The words, those of each element apart, with a space between any two."""
        return " ".join(" ".join(self.pieces).split())

    def attributes(self, name: str) -> list[str]:
        """Values of an attribute, in order."""
        return [attrs[name] or "" for _, attrs in self.elements if name in attrs]

    def tags(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of the elements of a name, in order."""
        return [attrs for found, attrs in self.elements if found == tag]
