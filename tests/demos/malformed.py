"""What no visitor should give, and some will: more than two hundred calls of each demo's API."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

DRAW = random.Random(0)
MEGABYTE = 1_000_000
LETTERS = "abcdefghijklmnopqrstuvwxyz"
ATTACK = "document.title='taken'"

EMPTY = {
    "empty": "",
    "blank": "   ",
    "line ends": "\n\r\n\n",
    "tabs": "\t\t",
    "wide blanks": "\u00a0\u2003\u3000",
    "form feeds": "\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029",
}
STRANGE = {
    "one letter": "x",
    "a megabyte of words": "word " * (MEGABYTE // 5),
    "a megabyte without a blank": "a" * MEGABYTE,
    "a megabyte of random letters": "".join(DRAW.choices(LETTERS, k=MEGABYTE)),
    "a megabyte of brackets": "<" * MEGABYTE,
    "a long line": "x = 1; " * 20_000,
    "many line ends": "a" + "\n" * 50_000,
    "binary": bytes(range(256)).decode("latin-1"),
    "random bytes": DRAW.randbytes(4096).decode("latin-1"),
    "an ELF header": "\x7fELF\x02\x01\x01\x00\x00\x00>\x00\x01",
    "control characters": "".join(map(chr, range(32))) + "x",
    "NUL": "\x00",
    "NUL within": "a\x00b\x00",
    "escape sequences": "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "C1 controls": "a\x80\x9b\x9f",
    "high surrogate": "a\ud800b",
    "low surrogate": "\udc00",
    "swapped surrogates": "\udc00\ud800",
    "surrogate at the end": "text \udbff",
    "replacement characters": "\ufffd" * 50,
    "noncharacters": "\uffff\ufffe\U0010ffff",
    "private use": "\ue000\uf8ff\U000f0000",
    "byte order marks": "\ufeff\ufeffa",
    "zero width": "\u200b\u200c\u200d\u2060",
    "soft hyphens": "\u00ad" * 10,
    "Hebrew": "שלום עולם, זה טקסט",
    "Arabic": "مرحبا بالعالم هذا نص طويل",
    "right-to-left override": "abc\u202edcba\u202c",
    "unclosed overrides": "\u202e\u202d\u2066\u2067text",
    "mixed directions": "x = 'שלום' + 1  # تعليق",
    "emoji": "😀🎉🚀" * 20,
    "a family": "👨‍👩‍👧‍👦" * 10,
    "flags": "🇩🇪🇫🇷🇯🇵",
    "skin tones": "👍🏿👋🏽",
    "half a flag": "🇩",
    "stacked marks": "Z" + "\u0351\u0322\u0335" * 60,
    "marks alone": "\u0301\u0302",
    "Chinese": "深度学习稀疏注意力" * 30,
    "Thai": "สวัสดีชาวโลก",
    "mathematical letters": "𝒳 ∈ ℝⁿ, 𝔸𝔹",
    "script": f"<script>{ATTACK}</script>",
    "script, upper case": f"<SCRIPT>{ATTACK}</SCRIPT>",
    "broken script": f"<scr<script>ipt>{ATTACK}</scr</script>ipt>",
    "image": f"<img src=x onerror={ATTACK}>",
    "svg": f"<svg/onload={ATTACK}>",
    "iframe": f"<iframe srcdoc='<script>parent.{ATTACK}</script>'></iframe>",
    "link": f'<a href="javascript:{ATTACK}">click</a>',
    "closing tags": f"</span></mark></div></body></html><script>{ATTACK}</script>",
    "out of an attribute": f'" onmouseover="{ATTACK}" x="',
    "out of a quote": f"' autofocus onfocus='{ATTACK}' '",
    "textarea": f"</textarea><script>{ATTACK}</script>",
    "style": "<style>* { display: none }</style>",
    "comment": f"<!-- --><script>{ATTACK}</script><!--",
    "CDATA": "<![CDATA[<b>]]>",
    "entities": "&lt;script&gt; &amp;#60; &#0; &notanentity;",
    "meta": '<meta http-equiv="refresh" content="0;url=http://example.invalid">',
    "template string": f"${{{ATTACK}}}",
    "handlebars": "{{constructor}} {{#each this}}{{/each}} {{{value}}}",
    "back ticks": f"`${{{ATTACK}}}` \\` \\",
    "Markdown": "# head\n[a](javascript:1) ![b](http://example.invalid/b.png)\n```\ncode\n```",
    "Markdown with HTML": f"**<img src=x onerror={ATTACK}>**",
    "formula": "$$\\frac{1}{0}$$ \\(x\\) \\href{javascript:1}{x}",
    "JSON": '{"__type__": "update", "visible": false}',
    "a path": "../../../../etc/passwd",
    "an address": "file:///etc/passwd http://127.0.0.1:22/",
    "SQL": "'; DROP TABLE tokens; --",
    "format": "%s%n {0.__class__} {x!r}",
    "old Mac line ends": "a\rb\rc",
}
NOT_TEXT: list[Any] = [None, 0, 5, 1.5, True, [], ["a"], {}, {"text": "a"}]
NOT_WHOLE: list[Any] = [None, True, -1, -(10**9), 10**15, 1e300, 1.5, "1", "<b>1</b>", "", [], [1], {}, {"a": 1}]
READ = {"text": "def f(x): return x", "layer": 1, "head": 1, "token": 1}
WRITE = {"text": "def f(x): return x", "count": 2, "temperature": 0.5, "seed": 0}
ROUTE = {"text": "def f(x): return x", "balance": "bias", "layer": 1, "expert": "all"}


@dataclass(frozen=True)
class Call:
    """One call of the API, and whether it is to be refused with words."""

    name: str
    endpoint: str
    arguments: dict[str, Any]
    refused: bool


def _texts(endpoint: str, usual: dict[str, Any]) -> list[Call]:
    calls = []
    for texts, refused in ((EMPTY, True), (STRANGE, False)):
        calls += [Call(f"{endpoint}: {name}", endpoint, {**usual, "text": t}, refused) for name, t in texts.items()]
    return calls + [Call(f"{endpoint}: text {text!r}", endpoint, {**usual, "text": text}, True) for text in NOT_TEXT]


def _calls() -> list[Call]:
    calls = []
    for endpoint, usual in (("read", READ), ("write", WRITE)):
        calls += _texts(endpoint, usual)
        for argument in [*usual][1:]:
            bad = [value for value in NOT_WHOLE if not (argument == "temperature" and value == 1.5)]
            calls += [Call(f"{endpoint}: {argument} {v!r}", endpoint, {**usual, argument: v}, True) for v in bad]
    return calls + _examples()


def _examples() -> list[Call]:
    names: list[Any] = ["", "prose 9", "<b>prose 1</b>", "prose", None, 1, [], {}]
    return [Call(f"example: {name!r}", "example", {"name": name}, True) for name in names]


def _moe_calls() -> list[Call]:
    words: list[Any] = ["", "Bias", "<b>bias</b>", "16", "-1", None, 1, 0.5, True, [], ["bias"], {}]
    bad = {"balance": words, "expert": words, "layer": NOT_WHOLE}
    calls = [
        Call(f"route: {argument} {value!r}", "route", {**ROUTE, argument: value}, True)
        for argument, values in bad.items()
        for value in values
    ]
    return _texts("route", ROUTE) + calls + _examples()


CALLS, MOE_CALLS = _calls(), _moe_calls()
assert len(CALLS) >= 200
assert len(MOE_CALLS) >= 120
