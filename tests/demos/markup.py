"""What a browser would make of a demo's HTML: its tags, its attributes, its text."""

from __future__ import annotations

from html.parser import HTMLParser

TAGS = {"div", "p", "span", "mark", "table", "caption", "thead", "tbody", "tr", "th", "td", "svg", "rect"}
ATTRIBUTES = {
    "class", "title", "dir", "role", "tabindex", "scope", "viewbox", "preserveaspectratio", "x", "y", "width", "height"
}  # fmt: skip


class Markup(HTMLParser):
    """Tags and attributes in the order of the text; the text itself; and the text of each element of a class."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.of_class: dict[str, list[str]] = {}
        self._open: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    @property
    def foreign(self) -> set[str]:
        """Tags and attributes that no demo writes."""
        return (self.tags - TAGS) | {a for a in self.attributes - ATTRIBUTES if not a.startswith("aria-")}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        kind = dict(attrs).get("class") or tag
        if tag != "rect":
            self._open.append((tag, kind))
            self.of_class.setdefault(kind, []).append("")

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        for kind in {kind for _, kind in self._open}:
            self.of_class[kind][-1] += data
