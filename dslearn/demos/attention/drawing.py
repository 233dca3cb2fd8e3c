"""A reading as HTML: the text with what is read marked, and all heads beside each other.

Everything that comes from the text is escaped here. Marks differ in shape as well as in colour.
"""

from __future__ import annotations

import html
from itertools import groupby

from dslearn.demos.attention.reading import Reading, Readings
from dslearn.demos.characters import visible, visible_token

MISSED = 0.01  # share of dense attention from which on an unread block is called missed

PAGE_CSS = """
.reading { --read: #0072b2; --missed: #b34700; --tint: #0072b224; --quiet: #5c6066; --rule: #d4d1ca; --page: #fbfaf7; }
.dark .reading { --read: #6cb9ea; --missed: #ff9d5c; --tint: #6cb9ea33; --quiet: #a9adb3; --rule: #57534e;
  --page: #1c1917; }
.reading .text { max-height: 26rem; overflow: auto; padding: .6rem .8rem; border: 1px solid var(--rule);
  border-radius: 6px; background: var(--page); white-space: pre-wrap; overflow-wrap: anywhere;
  font: .84rem/1.75 ui-monospace, Menlo, Consolas, monospace; tab-size: 4; unicode-bidi: isolate; }
.reading .text, .reading .text span { color: var(--quiet); }
.reading .text:focus-visible { outline: 2px solid var(--read); outline-offset: 2px; }
.reading mark, .reading .text mark { color: var(--body-text-color); background: var(--tint);
  border-bottom: 2px solid var(--read); padding-bottom: 2px; }
.reading .missed { border-bottom: 2px dashed var(--missed); padding-bottom: 2px; }
.reading .token, .reading .text span.token { color: var(--body-text-color); font-weight: 700;
  outline: 2px solid var(--missed); outline-offset: 1px; border-radius: 2px; margin: 0 3px; }
.reading .legend { display: flex; flex-wrap: wrap; gap: .6rem 1.2rem; margin: .5rem 0; font-size: .9rem; }
.reading table { width: 100%; table-layout: fixed; border-collapse: collapse; font-size: .85rem; }
.reading caption { text-align: left; padding-bottom: .4rem; color: var(--body-text-color); }
.reading th, .reading td { padding: .3rem .4rem; border: 1px solid var(--rule); text-align: left; font-weight: 400;
  color: var(--body-text-color); }
.reading thead td { width: 4.6rem; }
.reading td[aria-current] { outline: 2px solid var(--missed); outline-offset: -2px; font-weight: 700; }
.reading svg { display: block; width: 100%; height: 14px; margin-top: 2px; background: var(--tint); }
.reading svg .r { fill: var(--read); }
.reading svg .m { fill: var(--missed); }
"""

# The text ends with the reading token: that is what one wants to see first.
SCROLL_TO_END = """
const scroll = () => { const box = element.querySelector(".text"); if (box) box.scrollTop = box.scrollHeight; };
scroll();
watch("value", scroll);
"""

LEGEND = (
    '<p class="legend"><mark>read</mark><span>not read</span><span class="missed">missed: not read, though it has '
    f'{MISSED:.0%} or more of the dense attention</span><span class="token">the reading token</span></p>'
)


def text_as_html(readings: Readings, reading: Reading, *, title: str) -> str:
    """The text up to the reading token, block by block; ``title`` is plain text."""
    spans = [_block(readings, reading, block) for block in range(reading.token // reading.block_size + 1)]
    later = len(readings.pieces) - reading.keys
    after = f"<p>{later:,} later hidden: a token never reads ahead.</p>" if later else ""
    return (
        f'<div class="reading"><p>{html.escape(title)}</p>{LEGEND}'
        '<div class="text" dir="auto" role="group" tabindex="0" aria-label="The text up to the reading token">'
        f"{''.join(spans)}</div>{after}</div>"
    )


def _block(readings: Readings, reading: Reading, block: int) -> str:
    """One block's text in its mark; the reading token, which ends its own block, in a frame."""
    start, end = block * reading.block_size, min((block + 1) * reading.block_size, reading.keys)
    is_own = end == reading.keys
    text = visible("".join(readings.pieces[start : end - is_own]))
    told = f'title="block {block + 1}: {reading.mass[block].item():.1%} of this head&#39;s dense attention"'
    own = f'<span class="token">{visible_token(readings.pieces[end - 1])}</span>' if is_own else ""
    if block in reading.blocks:
        return f"<mark {told}>{text}{own}</mark>"
    return f'<span class="{_unread(reading, block)}" {told}>{text}{own}</span>'


def _unread(reading: Reading, block: int) -> str:
    return "missed" if reading.mass[block] >= MISSED else "unread"


def heads_as_html(readings: Readings, token: int, layer: int, head: int) -> str:
    """A table of all layers and heads: the share of dense attention on what is read, over a strip of the blocks."""
    layers, heads = readings.blocks.shape[:2]
    columns = "".join(f'<th scope="col">head {number + 1}</th>' for number in range(heads))
    rows = []
    for row in range(layers):
        cells = (_cell(readings.at(token, row, column), (row, column) == (layer, head)) for column in range(heads))
        rows.append(f'<tr><th scope="row">layer {row + 1}</th>{"".join(cells)}</tr>')
    body = f"<tbody>{''.join(rows)}</tbody>"
    return (
        '<div class="reading"><table><caption>Every head at the same token: the share of its dense attention that '
        "falls on what it reads. The strip is the text from its beginning to the token; full height is read, "
        f"half is missed.</caption><thead><tr><td></td>{columns}</tr></thead>{body}</table></div>"
    )


def _cell(reading: Reading, is_chosen: bool) -> str:
    current = ' aria-current="true"' if is_chosen else ""
    return f"<td{current}>{reading.share:.0%}{_strip(reading)}</td>"


def _strip(reading: Reading) -> str:
    """Runs of blocks as bars: read ones of full height, missed ones of half."""
    blocks = reading.token // reading.block_size + 1
    kinds = ["read" if block in reading.blocks else _unread(reading, block) for block in range(blocks)]
    bars, at = [], 0
    for kind, run in groupby(kinds):
        width = len(list(run))
        if kind != "unread":
            shape = 'class="r" y="0" height="2"' if kind == "read" else 'class="m" y="1" height="1"'
            bars.append(f'<rect {shape} x="{at}" width="{width}"/>')
        at += width
    return f'<svg viewBox="0 0 {blocks} 2" preserveAspectRatio="none" aria-hidden="true">{"".join(bars)}</svg>'
