"""The page ``dslearn demo moe``: a text, who takes it, and what balance does to that."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

from dslearn.demos.examples import EXAMPLES, example
from dslearn.demos.inputs import one_of, text_of, whole_number
from dslearn.demos.moe.drawing import PAGE_CSS, loads_as_html, networks_as_html, text_as_html
from dslearn.demos.moe.routing import MOST_BYTES, Networks, Routed, fair_use, load_networks, route_text
from dslearn.demos.serve import ONE_AT_A_TIME, UNTOUCHED, gradio, new_page, told_plainly

__all__ = ["PAGE_CSS", "build", "load"]

TITLE = "Which expert takes what?"
CHAPTER = "http://127.0.0.1:8888/lab/tree/chapters/02_moe_routing.ipynb"
EXAMPLE_LENGTH = 1500
EVERY = "all"
FIRST_BALANCE = "bias"

load = load_networks


class Answers:
    """What the page's events and the API's callers get. Layers count from 1, experts from 0, as in the chapter."""

    def __init__(self, networks: Networks) -> None:
        self.networks = networks
        self.routed = lru_cache(maxsize=16)(partial(route_text, networks))
        self.fair = lru_cache(maxsize=16)(partial(fair_use, num_experts=networks.num_experts, top_k=networks.top_k))

    def example(self, name: object) -> str:
        """The beginning of a text that no network has seen: "prose 1" to "prose 3", "code 1" to "code 3"."""
        with told_plainly():
            return example(one_of(name, "The example", EXAMPLES), EXAMPLE_LENGTH).text

    def route(
        self, text: object, balance: object, layer: object, expert: object
    ) -> tuple[str, str, str, dict[str, Any]]:
        """Which experts take which bytes of a text: the coloured text, the loads, all networks, and the numbers.

        Balance is "nothing", "Switch loss", "bias" or "capacity 1.2"; layers count from 1; expert is "all", or a number
        from "0" of the one whose bytes alone are to be marked.
        """
        networks = self.networks
        with told_plainly():
            words = text_of(text)
            name = one_of(balance, "The balance", tuple(networks.models))
            row = whole_number(layer, "The layer", 1, networks.num_layers) - 1
            marked = one_of(expert, "The expert", _experts(networks))
        routed = {one: self.routed(one, words) for one in networks.models}
        chosen, spotlight = routed[name], None if marked == EVERY else int(marked)
        fair = self.fair(chosen.experts.shape[1])
        return (
            text_as_html(chosen, row, spotlight, title=_told(chosen, row, spotlight)),
            loads_as_html(chosen, row),
            networks_as_html(routed, row, name, fair),
            _numbers(chosen, row) | {"balance": name, "use_by_lot": round(fair, 4)},
        )


def build(networks: Networks) -> Any:
    """The page, a Gradio ``Blocks``, not yet served.

    Raises:
        MissingExtraError: Gradio is not installed.
    """
    gr = gradio()
    answers = Answers(networks)
    with new_page(TITLE) as page:
        gr.Markdown(_introduction(networks))
        text = gr.Textbox(
            example(EXAMPLES[3], EXAMPLE_LENGTH).text,
            label="Text or code",
            lines=5,
            max_lines=8,
            info=f"Write, or paste your own; the first {MOST_BYTES:,} bytes are read, in pieces of {networks.window}.",
        )
        examples = gr.Radio(EXAMPLES, value=EXAMPLES[3], label="Or an example, from documents that no network has seen")
        with gr.Row():
            balance = gr.Radio(list(networks.models), value=FIRST_BALANCE, label="Balanced by")
            layers = [(f"layer {number}", number) for number in range(1, networks.num_layers + 1)]
            layer = gr.Radio(layers, value=networks.num_layers, label="Layer")
        expert = gr.Radio(_experts(networks), value=EVERY, label="Mark what one expert takes")
        button = gr.Button("Show who takes what", variant="primary")
        coloured = gr.HTML(js_on_load=None)
        with gr.Row():
            with gr.Column(min_width=340):
                loads = gr.HTML(js_on_load=None)
            with gr.Column(min_width=340):
                others = gr.HTML(js_on_load=None)
        with gr.Accordion("The same as numbers, as the API gives them", open=False):
            numbers = gr.JSON(show_label=False, open=True)
        handed = ([text, balance, layer, expert], [coloured, loads, others, numbers])
        quiet = {"show_progress": "hidden", **UNTOUCHED, **ONE_AT_A_TIME}
        moved = [balance.input, layer.input, expert.input]
        gr.on(moved, answers.route, *handed, api_name="route", trigger_mode="always_last", **quiet)
        for event in (
            button.click,
            page.load,
            examples.input(answers.example, examples, text, api_name="example", **UNTOUCHED, **ONE_AT_A_TIME).success,
        ):
            event(answers.route, *handed, api_visibility="private", **UNTOUCHED, **ONE_AT_A_TIME)
    return page


def _experts(networks: Networks) -> tuple[str, ...]:
    return EVERY, *map(str, range(networks.num_experts))


def _introduction(networks: Networks) -> str:
    return (
        f"# {TITLE}\n\n"
        "Four small networks that read bytes, trained on Python's own source and documentation. Each of their layers "
        f"has {networks.num_experts} experts, of which a byte takes {networks.top_k}. They differ in one thing: what "
        "keeps the experts evenly busy. You build and break all that in [chapter 02, *Mixture of experts*]"
        f"({CHAPTER}) (the "
        "link works while `dslearn lab` runs)."
    )


def _told(routed: Routed, layer: int, spotlight: int | None) -> str:
    bytes_read = routed.experts.shape[1]
    told = f"Only the first {bytes_read:,} bytes are read. " if routed.shortened else ""
    report = routed.report(layer)
    told += f"In layer {layer + 1}, {bytes_read:,} bytes: the use of the experts is {report.utilisation:.0%}"
    told += f", and {report.drop_rate:.1%} of the choices were dropped" if report.drop_rate else ""
    told += " (an expert's room is counted in each piece by itself)." if report.drop_rate else "."
    if spotlight is not None:
        told += f" Marked: the {int(routed.loads(layer)[spotlight]):,} bytes of expert {spotlight}."
    if any(len(character.encode()) > 1 for character in routed.characters):
        told += " A character of several bytes shows its first one."
    return told


def _numbers(routed: Routed, layer: int) -> dict[str, Any]:
    report = routed.report(layer)
    return {
        "layer": layer + 1,
        "bytes": routed.experts.shape[1],
        "nats_a_byte": round(routed.nats, 6),
        "loads": routed.loads(layer).tolist(),
        "use": round(report.utilisation, 6),
        "max_violation": round(report.max_violation, 6),
        "variation": round(report.variation, 6),
        "entropy": round(report.entropy, 6),
        "dropped": round(report.drop_rate, 6),
    }
