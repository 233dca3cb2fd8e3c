"""The attention demo served for real, and called as its API's users call it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from dslearn.demos.attention.app import LENGTHS, load
from dslearn.demos.attention.pair import EXAMPLE_LENGTH, Pair
from dslearn.demos.attention.reading import read_text
from dslearn.demos.examples import EXAMPLES, example
from dslearn.models import generate
from tests.demos.calling import call, call_plainly, problem_of
from tests.demos.malformed import CALLS, READ, WRITE
from tests.demos.markup import Markup
from tests.demos.serving import Served, served

FIRST_TOKEN_MS = 300
PROMPT_LENGTH = 1000  # characters: a few hundred tokens

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair() -> Pair:
    return load()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served("attention", tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture(scope="module")
def client(demo: Served) -> Client:
    return Client(demo.address, verbose=False)


def test_every_endpoint_is_documented(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {"/example", "/read", "/write", "/measure"}
    for name, endpoint in endpoints.items():
        assert len(endpoint["description"]) > 60, name
    labels = {name: [parameter["label"] for parameter in endpoints[name]["parameters"]] for name in endpoints}
    assert labels["/read"] == ["Text or code", "Layer", "Head", "Reading token"]
    assert labels["/write"] == ["Text or code", "Tokens to write", "Temperature", "Seed"]


def test_a_reading_is_the_librarys(client: Client, pair: Pair) -> None:
    text = example(EXAMPLES[1], EXAMPLE_LENGTH).text
    marked, heads, numbers = call(client, "read", text=text, layer=3, head=2, token=1000)
    reading = read_text(pair, text).at(999, 2, 1)
    assert numbers["keys_read"] == reading.keys_read == pair.budget - 32 + 1000 % 32
    assert numbers["blocks_read"] == [block + 1 for block in reading.blocks]
    assert numbers["share_of_dense_attention"] == pytest.approx(reading.share, abs=1e-5)
    told = Markup(marked).of_class["p"][0]
    assert f"layer 3, head 2, token 1,000 of {numbers['tokens']:,} reads {numbers['keys_read']} of 1,000 keys" in told
    assert len(Markup(heads).of_class["td"]) == 1 + 16


def test_a_token_after_the_end_is_the_last(client: Client) -> None:
    numbers = call(client, "read", **{**READ, "token": 2048})[2]
    assert numbers["token"] == numbers["tokens"] < 20


def test_a_text_too_long_says_so(client: Client) -> None:
    told = "longer than the model can read: only its last 2,0"
    assert told in call(client, "read", **READ | {"text": "a " * 9999})[0]
    assert told in call(client, "write", **WRITE | {"text": "a " * 9999})[-1]


def test_samples_are_the_librarys_and_stream_token_by_token(client: Client, pair: Pair) -> None:
    text = example(EXAMPLES[0], EXAMPLE_LENGTH).text
    states = list(client.submit(text, 12, 0.9, 7, api_name="/write"))
    assert len(states) == 12 + 2
    prompt, _ = pair.encode(text, pair.context - 12)
    for column, view in ((1, pair.dense), (4, pair.sparse)):
        written = generate(view, prompt[None], 12, temperature=0.9, seed=7)[0, len(prompt) :].tolist()
        assert states[-1][column] == pair.tokenizer.decode(written)
        growing = [len(state[column]) for state in states]
        assert growing == sorted(growing)
        assert "First token after" in states[-1][column + 1]
    for label in (states[-1][0], states[-1][3]):
        assert len(label["confidences"]) == 5


def test_the_first_token_is_there_at_once(client: Client) -> None:
    prompt = example(EXAMPLES[0], EXAMPLE_LENGTH).text[:PROMPT_LENGTH]
    waits = [first_token_ms(client, prompt) for _ in range(5)]
    print(f"ms to the first token: {', '.join(f'{wait:.0f}' for wait in waits)}")
    assert statistics.median(waits) <= FIRST_TOKEN_MS


def first_token_ms(client: Client, prompt: str) -> float:
    started = time.perf_counter()
    job = client.submit(prompt, 8, 0.7, 0, api_name="/write")
    first = next(iter(job))
    waited = 1e3 * (time.perf_counter() - started)
    job.result()
    assert first[2].startswith("First token after")
    return waited


def test_visitors_do_not_disturb_each_other(client: Client) -> None:
    text = example(EXAMPLES[2], EXAMPLE_LENGTH).text
    works = [
        lambda: call(client, "write", text=text, count=16, temperature=0, seed=0)[1:5:3],
        lambda: call(client, "read", text=text, layer=2, head=3, token=1500),
        lambda: call(client, "write", text=text[:3000], count=16, temperature=1, seed=5)[1:5:3],
        lambda: call(client, "read", text=text[:4000], layer=4, head=1, token=900),
    ]
    alone = [work() for work in works]
    with ThreadPoolExecutor(len(works)) as pool:
        for _ in range(3):
            assert list(pool.map(lambda work: work(), works)) == alone


def test_times_grow_into_a_picture(client: Client) -> None:
    states = list(client.submit(api_name="/measure"))
    assert [told for _, told in states[:-1]] == [f"Measuring {length:,} tokens …" for length in LENGTHS]
    picture, told = states[-1]
    assert picture.startswith("<img") and "data:image/png;base64," in picture
    assert told.startswith("Time in ms against length for dense and sparse")


def test_missing_values_are_named(client: Client, demo: Served) -> None:
    words = r"The call needs 4 values \(Text or code, Layer, Head, Reading token\), not 1\."
    with pytest.raises(AppError, match=words):
        call_plainly(client, "read", {"text": "a"})
    assert "Traceback" not in demo.printed


def test_malformed_calls_get_words_and_neither_traceback_nor_markup(client: Client, demo: Served) -> None:
    wrong = [f"{one.name}: {problem}" for one in CALLS if (problem := problem_of(client, one))]
    assert wrong == []
    assert "Traceback" not in demo.printed
