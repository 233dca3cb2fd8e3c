"""Text as a page may show it: escaped, with pictures for what has none."""

from __future__ import annotations

import html


def visible(text: str) -> str:
    """Escaped text in which control characters are their pictures."""
    return html.escape("".join(map(_picture, text)))


def visible_token(text: str) -> str:
    """As ``visible``; blanks and line ends show, and a token without text of its own is a dotted circle."""
    return visible(text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥") or "◌")


def _picture(character: str) -> str:
    code = ord(character)
    if character in "\n\t" or code >= 0xA0 or 0x20 <= code < 0x7F:
        return character
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\ufffd"
