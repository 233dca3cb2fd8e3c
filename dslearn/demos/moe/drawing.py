"""A routed text as HTML: each character in the colours of its experts, the loads as bars, the networks side by side.

Everything that comes from the text is escaped here. No colour stands alone: numbers are in the titles and in the table,
and one expert's characters can be marked by shape.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping

from dslearn.demos.characters import visible, visible_token
from dslearn.demos.moe.routing import Routed

EXPERTS = 16  # for so many there are colours
_HUE = 360 / EXPERTS
_APART = 7  # neighbours' hues lie so many steps apart
_FAVOURITES = 5


def hue(expert: int) -> float:
    """An expert's hue in degrees."""
    return expert * _APART % EXPERTS * _HUE


def _colours(dark: bool) -> str:
    """A background and a line for each expert."""
    theme, (fill, line) = (".dark ", ("40% 27%", "60% 62%")) if dark else ("", ("75% 87%", "70% 40%"))
    return "\n".join(
        f"{theme}.routed .e{expert} {{ background: hsl({hue(expert)} {fill}); }}\n"
        f"{theme}.routed .text .u{expert} {{ border-bottom-color: hsl({hue(expert)} {line}); }}"
        for expert in range(EXPERTS)
    )


PAGE_CSS = f"""
.routed {{ --quiet: #5c6066; --rule: #d4d1ca; --page: #fbfaf7; --bar: #0072b2; --line: #b34700; }}
.dark .routed {{ --quiet: #a9adb3; --rule: #57534e; --page: #1c1917; --bar: #6cb9ea; --line: #ff9d5c; }}
.routed .text {{ max-height: 26rem; overflow: auto; padding: .6rem .8rem; border: 1px solid var(--rule);
  border-radius: 6px; background: var(--page); white-space: pre-wrap; overflow-wrap: anywhere;
  font: .9rem/1.9 ui-monospace, Menlo, Consolas, monospace; tab-size: 4; unicode-bidi: isolate; }}
.routed .text:focus-visible {{ outline: 2px solid var(--bar); outline-offset: 2px; }}
.routed .text span {{ color: var(--body-text-color); border-bottom: 3px solid transparent; padding-top: 1px; }}
.routed .text .other {{ color: var(--quiet); }}
.routed .text mark {{ color: var(--body-text-color); font-weight: 700; border-bottom: 3px solid var(--line); }}
.routed .dropped {{ text-decoration: line-through 1px var(--line); }}
{_colours(dark=False)}
{_colours(dark=True)}
.routed .legend {{ display: flex; flex-wrap: wrap; gap: .4rem 1rem; margin: .5rem 0; font-size: .9rem; }}
.routed table {{ width: 100%; border-collapse: collapse; font-size: .85rem; }}
.routed caption {{ text-align: left; padding-bottom: .4rem; color: var(--body-text-color); }}
.routed th, .routed td {{ padding: .15rem .4rem; border: 1px solid var(--rule); text-align: left; font-weight: 400;
  color: var(--body-text-color); }}
.routed tbody .swatch {{ width: 2.6rem; text-align: right; color: var(--body-text-color); }}
.routed .bar {{ width: 40%; padding: 0 .2rem; }}
.routed svg {{ display: block; width: 100%; height: 14px; }}
.routed svg .b {{ fill: var(--bar); }}
.routed svg .l {{ fill: var(--line); }}
.routed tr[aria-current] th, .routed tr[aria-current] td {{ font-weight: 700; }}
.routed .own {{ font-family: ui-monospace, Menlo, Consolas, monospace; white-space: nowrap; }}
"""

LEGEND = (
    '<p class="legend"><span>background: the first expert</span><span>line below: the second</span>'
    '<span class="dropped">struck out: a choice was dropped</span></p>'
)


def text_as_html(routed: Routed, layer: int, spotlight: int | None, *, title: str) -> str:
    """The text; with a ``spotlight`` only what that expert took is marked. ``title`` is plain text."""
    spans = [_character(routed, layer, at, spotlight) for at in range(len(routed.characters))]
    return (
        f'<div class="routed"><p>{html.escape(title)}</p>{LEGEND}'
        '<div class="text" dir="auto" role="group" tabindex="0" aria-label="The text, coloured by experts">'
        f"{''.join(spans)}</div></div>"
    )


def _character(routed: Routed, layer: int, at: int, spotlight: int | None) -> str:
    byte = int(routed.first_byte[at])
    experts, weights = routed.experts[layer, byte].tolist(), routed.weights[layer, byte].tolist()
    served = [expert for expert, weight in zip(experts, weights, strict=True) if weight > 0]
    told = ", ".join(f"{e} ({w:.0%})" if w else f"{e} (dropped)" for e, w in zip(experts, weights, strict=True))
    text, title = visible(routed.characters[at]), f'title="experts {told}"'
    dropped = ["dropped"] if len(served) < len(experts) else []
    if spotlight is not None:
        is_own = spotlight in served
        return f"<mark {title}>{text}</mark>" if is_own else f'<span class="other" {title}>{text}</span>'
    kinds = [*(f"{kind}{expert}" for kind, expert in zip("eu", experts, strict=False) if expert in served), *dropped]
    return f'<span class="{" ".join(kinds)}" {title}>{text}</span>'


def loads_as_html(routed: Routed, layer: int) -> str:
    """A row for each expert: how much it takes, as a bar with the even load marked, and of what most."""
    loads = routed.loads(layer).tolist()
    even, highest = sum(loads) / len(loads), max(loads)
    favourites = _favourites(routed, layer)
    rows = "".join(
        f'<tr><th scope="row" class="swatch e{expert}">{expert}</th><td class="bar">{_bar(load, even, highest)}</td>'
        f'<td>{load:,}</td><td>{load / max(even, 1e-9):.0%}</td><td class="own">{favourites[expert]}</td></tr>'
        for expert, load in enumerate(loads)
    )
    return (
        '<div class="routed"><table><caption>How busy each expert is here. The line is an even load.</caption>'
        '<thead><tr><th scope="col">expert</th><th scope="col">load</th><th scope="col">bytes</th>'
        '<th scope="col">of an even load</th><th scope="col">most often</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _bar(load: int, even: float, highest: int) -> str:
    scale = 98 / max(highest, even, 1)
    return (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="b" x="0" y="1" width="{load * scale:.2f}" height="8"/>'
        f'<rect class="l" x="{even * scale:.2f}" y="0" width="0.8" height="10"/></svg>'
    )


def _favourites(routed: Routed, layer: int) -> list[str]:
    """The characters that each expert takes most often, first or second choice."""
    taken: list[Counter[str]] = [Counter() for _ in range(routed.num_experts)]
    for character, byte in zip(routed.characters, routed.first_byte.tolist(), strict=True):
        for expert, weight in zip(routed.experts[layer, byte].tolist(), routed.weights[layer, byte], strict=True):
            if weight > 0:
                taken[expert][character] += 1
    return [" ".join(visible_token(character) for character, _ in one.most_common(_FAVOURITES)) for one in taken]


def networks_as_html(routed: Mapping[str, Routed], layer: int, balance: str, fair: float) -> str:
    """The four networks on the same text; ``fair`` is the use of experts that are drawn by lot."""
    rows = "".join(_network(name, one, layer, is_chosen=name == balance) for name, one in routed.items())
    return (
        '<div class="routed"><table><caption>The same text in all four. Use is mean over highest load. '
        f"Balance holds over many texts, not in each; by lot, experts would come to {fair:.0%} here.</caption>"
        '<thead><tr><th scope="col">balanced by</th><th scope="col">nats a byte</th><th scope="col">use</th>'
        f'<th scope="col">dropped</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _network(name: str, routed: Routed, layer: int, *, is_chosen: bool) -> str:
    report, current = routed.report(layer), ' aria-current="true"' if is_chosen else ""
    cells = (f"{routed.nats:.3f}", f"{report.utilisation:.0%}", f"{report.drop_rate:.1%}")
    return f'<tr{current}><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
