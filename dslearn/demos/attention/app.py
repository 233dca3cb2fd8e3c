"""The page ``dslearn demo attention``: its three parts, and what answers them."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from dslearn.demos.attention.drawing import PAGE_CSS, SCROLL_TO_END, heads_as_html, text_as_html
from dslearn.demos.attention.pair import EXAMPLE_LENGTH, Pair, load_pair
from dslearn.demos.attention.reading import read_text
from dslearn.demos.attention.timing import LENGTHS, time_lengths
from dslearn.demos.attention.writing import Sample, likeliest, shared_start, write_in_turns
from dslearn.demos.examples import EXAMPLES, example
from dslearn.demos.inputs import number, one_of, text_of, whole_number
from dslearn.demos.serve import ONE_AT_A_TIME, UNTOUCHED, gradio, new_page, told_plainly
from dslearn.plots import crossover

__all__ = ["PAGE_CSS", "build", "load"]

TITLE = "What does sparse attention read?"
CHAPTER = "http://127.0.0.1:8888/lab/tree/chapters/01_sparse_attention.ipynb"
BUILT = f"[More in chapter 01]({CHAPTER})."
MOST_WRITTEN = 128
HIGHEST_TEMPERATURE, HIGHEST_SEED = 2, 2**31 - 1


def load() -> Pair:
    """The finished language model, dense and sparse.

    Raises:
        FileNotFoundError, ValueError: it is missing or damaged.
    """
    return load_pair("language")


class Answers:
    """What the page's events and the API's callers get. Layers, heads and tokens count from 1 here."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.readings = lru_cache(maxsize=4)(partial(read_text, pair))

    def example(self, name: object) -> str:
        """The beginning of a text that the model has never seen: "prose 1" to "prose 3", "code 1" to "code 3"."""
        with told_plainly():
            return example(one_of(name, "The example", EXAMPLES), EXAMPLE_LENGTH).text

    def read(self, text: object, layer: object, head: object, token: object) -> tuple[str, str, dict[str, Any]]:
        """What a head's selection lets one token of a text read: the marked text, all heads, and the numbers.

        Layer, head and token count from 1; a token after the end of the text stands for the last one.
        """
        config, context = self.pair.sparse.config, self.pair.context
        with told_plainly():
            readings = self.readings(text_of(text))
            row = whole_number(layer, "The layer", 1, config.num_layers) - 1
            column = whole_number(head, "The head", 1, config.num_heads) - 1
            at = min(whole_number(token, "The token", 1, context), len(readings.pieces)) - 1
        reading = readings.at(at, row, column)
        numbers = {
            "layer": row + 1,
            "head": column + 1,
            "token": at + 1,
            "tokens": len(readings.pieces),
            "keys_read": reading.keys_read,
            "blocks_read": [block + 1 for block in reading.blocks],
            "share_of_dense_attention": round(reading.share, 6),
        }
        title = _cut_short(context) if readings.shortened else ""
        title += (
            f"In layer {row + 1}, head {column + 1}, token {at + 1:,} of {len(readings.pieces):,} reads "
            f"{reading.keys_read:,} of {reading.keys:,} keys. {reading.share:.1%} of its dense attention falls on them."
        )
        return text_as_html(readings, reading, title=title), heads_as_html(readings, at, row, column), numbers

    def last_token(self, text: object) -> Any:
        """The slider of the reading token, fitted to the text and set to its end."""
        with told_plainly():
            tokens = len(self.readings(text_of(text)).pieces)
        return gradio().Slider(minimum=1, maximum=max(tokens, 2), value=tokens)

    def write(
        self, text: object, count: object, temperature: object, seed: object
    ) -> Iterator[tuple[dict[str, float] | None, str, str, dict[str, float] | None, str, str, str]]:
        """Dense and sparse write the text on with the same seed, token by token in turns.

        For both: the five likeliest next tokens, what is written so far, and its time; then how far they agree.
        """
        with told_plainly():
            words = text_of(text)
            length = whole_number(count, "The number of tokens", 1, MOST_WRITTEN)
            warmth = number(temperature, "The temperature", 0, HIGHEST_TEMPERATURE)
            start = whole_number(seed, "The seed", 0, HIGHEST_SEED)
        pair = self.pair
        prompt, shortened = pair.encode(words, pair.context - length)
        about = _cut_short(len(prompt)) if shortened else ""
        guesses: dict[str, dict[str, float]] = {}
        samples: dict[str, Sample] = {}
        for samples in write_in_turns(pair, prompt, length, temperature=warmth, seed=start):
            yield self._written(samples, guesses, about + _agreement(samples))
            if not guesses and samples["sparse"].tokens:  # not before the first tokens are shown: they take as long
                guesses = {name: likeliest(view, pair.tokenizer, prompt) for name, view in pair.views.items()}
        yield self._written(samples, guesses, f"{about}{_agreement(samples)} {_budget_told(len(prompt), pair.budget)}")

    def _written(
        self, samples: dict[str, Sample], guesses: dict[str, dict[str, float]], told: str
    ) -> tuple[dict[str, float] | None, str, str, dict[str, float] | None, str, str, str]:
        """One state of the page while it writes."""
        dense, sparse = (
            (guesses.get(name), samples[name].text(self.pair.tokenizer), samples[name].times())
            for name in ("dense", "sparse")
        )
        return *dense, *sparse, told

    def measure(self) -> Iterator[tuple[str, str]]:
        """Time one attention layer of this model on this machine, dense and sparse in turns, at growing lengths.

        A picture as HTML from the second length on, and a sentence that says how far it is, and at last what came out.
        """
        lengths: list[int] = []
        times: dict[str, list[list[float]]] = {name: [] for name in self.pair.views}
        picture, told = "", f"Measuring {LENGTHS[0]:,} tokens …"
        yield picture, told
        for length, ms in time_lengths(self.pair, LENGTHS):
            lengths.append(length)
            for name, samples in ms.items():
                times[name].append(samples)
            if len(lengths) > 1:
                figure = crossover(lengths, *(np.array(times[name]).T for name in ("dense", "sparse")))
                picture, told = figure.as_html(), figure.alt
            done = len(lengths) == len(LENGTHS)
            yield picture, f"{told} {_machine()}" if done else f"Measuring {LENGTHS[len(lengths)]:,} tokens …"


def build(pair: Pair) -> Any:
    """The page, a Gradio ``Blocks``, not yet served.

    Raises:
        MissingExtraError: Gradio is not installed.
    """
    gr = gradio()
    answers = Answers(pair)
    with new_page(TITLE) as page:
        gr.Markdown(_introduction(pair))
        text = gr.Textbox(
            example(EXAMPLES[0], EXAMPLE_LENGTH).text,
            label="Text or code",
            lines=5,
            max_lines=8,
            info="Write, or paste your own.",
        )
        examples = gr.Radio(
            EXAMPLES,
            value=EXAMPLES[0],
            label="Or an example, from documents the model has never seen",
            info="The first piece of code takes some seconds.",
        )
        with gr.Tab("Reading"):
            shown = _reading_part(gr, answers, page, text)
        with gr.Tab("Writing"):
            _writing_part(gr, answers, text)
        with gr.Tab("Time"):
            _timing_part(gr, answers)
        shown(examples.input(answers.example, examples, text, api_name="example", **UNTOUCHED, **ONE_AT_A_TIME).success)
    return page


def _reading_part(gr: Any, answers: Answers, page: Any, text: Any) -> Any:
    """Returns what shows the text after an event: it takes the event's method to go on with."""
    config, context = answers.pair.sparse.config, answers.pair.context
    gr.Markdown(
        "Each head of each layer chooses for every token which blocks of earlier tokens it reads. Move the reading "
        f"token back through the text, and compare heads: some stay near, some fetch a line from far away. {BUILT}"
    )
    with gr.Row():
        layer = gr.Radio(_numbered("layer", config.num_layers), value=1, label="Layer")
        head = gr.Radio(_numbered("head", config.num_heads), value=1, label="Head")
        token = gr.Slider(1, context, context, step=1, label="Reading token", buttons=[])
    button = gr.Button("Show what is read", variant="primary")
    marked, heads = gr.HTML(js_on_load=SCROLL_TO_END), gr.HTML(js_on_load=None)
    with gr.Accordion("The same as numbers, as the API gives them", open=False):
        numbers = gr.JSON(show_label=False, open=True)
    handed = ([text, layer, head, token], [marked, heads, numbers])
    quiet = {"show_progress": "hidden", **UNTOUCHED, **ONE_AT_A_TIME}
    moved = [layer.input, head.input, token.input]
    gr.on(moved, answers.read, *handed, api_name="read", trigger_mode="always_last", **quiet)

    def shown(event: Any) -> None:
        fitted = event(answers.last_token, text, token, api_visibility="private", **quiet)
        fitted.success(answers.read, *handed, api_visibility="private", **UNTOUCHED, **ONE_AT_A_TIME)

    shown(button.click)
    shown(page.load)
    return shown


def _writing_part(gr: Any, answers: Answers, text: Any) -> None:
    gr.Markdown(
        "The same weights write the text on twice: dense reads every earlier token, sparse only what its heads choose. "
        "Same prompt, same seed (a temperature of 0 takes the likeliest); the two take turns, a token each, and each "
        f"token's time is taken. {BUILT}"
    )
    with gr.Row():
        count = gr.Slider(1, MOST_WRITTEN, 48, step=1, label="Tokens to write", buttons=[])
        temperature = gr.Slider(0, HIGHEST_TEMPERATURE, 0.7, step=0.1, label="Temperature", buttons=[])
        seed = gr.Number(0, precision=0, minimum=0, maximum=HIGHEST_SEED, label="Seed")
    button = gr.Button("Write on", variant="primary")
    outputs = []
    with gr.Row():
        for name in ("Dense", "Sparse"):
            with gr.Column(min_width=300):
                guesses = gr.Label(label=f"{name}: likeliest next tokens", show_heading=False)
                written = gr.Textbox(label=f"{name}: written", lines=8, max_lines=16, interactive=False)
                outputs += [guesses, written, gr.Markdown()]
    outputs.append(gr.Markdown())
    button.click(
        answers.write,
        [text, count, temperature, seed],
        outputs,
        api_name="write",
        show_progress="minimal",
        **UNTOUCHED,
        **ONE_AT_A_TIME,
    )


def _timing_part(gr: Any, answers: Answers) -> None:
    gr.Markdown(
        "One attention layer of this model reads ever longer texts, dense and sparse in turns, on your machine. Where "
        f"the lines cross, choosing begins to cost less than it saves. {BUILT}"
    )
    button = gr.Button("Measure on this machine", variant="primary")
    told, picture = gr.Markdown(), gr.HTML(js_on_load=None, elem_classes="picture")
    button.click(answers.measure, None, [picture, told], api_name="measure", show_progress="minimal", **ONE_AT_A_TIME)


def _introduction(pair: Pair) -> str:
    config = pair.sparse.config
    return (
        f"# {TITLE}\n\n"
        f"A small language model, trained on Python's own source and documentation. Each of its tokens reads at most "
        f"{pair.budget} earlier ones: {config.top_k} blocks of {config.block_size}, its own among them. You build, "
        f"prove, train and time all that in [chapter 01, *Sparse attention*]({CHAPTER}) (links to it work while "
        "`dslearn lab` runs)."
    )


def _numbered(what: str, count: int) -> list[tuple[str, int]]:
    """Choices that name themselves: a screen reader does not connect them with their heading."""
    return [(f"{what} {number}", number) for number in range(1, count + 1)]


def _cut_short(tokens: int) -> str:
    return f"The text is longer than the model can read: only its last {tokens:,} tokens are used. "


def _agreement(samples: dict[str, Sample]) -> str:
    same, written = shared_start(samples), len(samples["sparse"].tokens)
    if same == written:
        return f"Both wrote the same {written} tokens." if written else ""
    return f"The first {same} tokens are the same." if same else "They differ from the first token on."


def _budget_told(tokens: int, budget: int) -> str:
    if tokens <= budget:
        return f"The prompt has {tokens:,} tokens; up to {budget} sparse attention reads everything, too."
    return f"Of the prompt's {tokens:,} tokens sparse attention reads at most {budget} at a time."


def _machine() -> str:
    return f"Measured on {platform.machine()}, {torch.get_num_threads()} threads."
