"""A strict HTML parser for tests of pages."""

from html.parser import HTMLParser

VOID = ("img", "input", "link", "meta")


class Page(HTMLParser):
    """Parses a page into tags with their attributes, texts with the tag around them, and table rows.

    Raises AssertionError for a tag that is not closed.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((self._open[-1], data))
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each tag with this name."""
        return [attributes for name, attributes in self.tags if name == tag]

    def inside(self, tag: str) -> list[str]:
        """The texts directly inside tags with this name, without those of nested tags."""
        return [text for name, text in self.texts if name == tag]
