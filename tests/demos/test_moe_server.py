"""The demo of mixtures served for real, and called as its API's users call it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gradio_client import Client

from dslearn.demos.examples import EXAMPLES, example
from dslearn.demos.moe.app import EXAMPLE_LENGTH
from dslearn.demos.moe.routing import BALANCES, load_networks, route_text
from tests.demos.calling import call, problem_of
from tests.demos.malformed import MOE_CALLS, ROUTE
from tests.demos.markup import Markup
from tests.demos.serving import Served, served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served("moe", tmp_path_factory.mktemp("demo")) as demo:
        yield demo
    assert "Traceback" not in demo.printed


@pytest.fixture(scope="module")
def client(demo: Served) -> Client:
    return Client(demo.address, verbose=False)


def test_every_endpoint_is_documented(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {"/example", "/route"}
    assert all(len(endpoint["description"]) > 60 for endpoint in endpoints.values())
    labels = [parameter["label"] for parameter in endpoints["/route"]["parameters"]]
    assert labels == ["Text or code", "Balanced by", "Layer", "Mark what one expert takes"]


@pytest.mark.parametrize("balance", BALANCES)
def test_what_is_shown_is_what_the_finished_network_does(client: Client, balance: str) -> None:
    text = example(EXAMPLES[4], EXAMPLE_LENGTH).text
    assert call(client, "example", name=EXAMPLES[4]) == text
    coloured, loads, others, numbers = call(client, "route", text=text, balance=balance, layer=2, expert="all")
    routed = route_text(load_networks(), balance, text)
    assert numbers["loads"] == routed.loads(1).tolist()
    assert numbers["nats_a_byte"] == pytest.approx(routed.nats, rel=1e-4)
    assert numbers["use"] == pytest.approx(routed.report(1).utilisation, abs=1e-5)
    assert (numbers["dropped"] > 0) == (balance == "capacity 1.2")
    assert numbers["balance"] == balance
    assert Markup(coloured).of_class["text"] == [text]
    assert len(Markup(loads).of_class["bar"]) == 16
    assert f'aria-current="true"><th scope="row">{balance}<' in others


def test_one_expert_is_marked(client: Client) -> None:
    text = "for one in range(10):\n    print(one)\n"
    coloured, *_, numbers = call(client, "route", **{**ROUTE, "text": text, "expert": "3"})
    marked = Markup(coloured).of_class.get("mark", [])
    assert len(marked) == numbers["loads"][3]
    assert f"the {len(marked)} bytes of expert 3" in coloured


def test_a_text_too_long_says_so(client: Client) -> None:
    assert "Only the first 2,048 bytes are read." in call(client, "route", **ROUTE | {"text": "a " * 9999})[0]


def test_malformed_calls_get_words_and_neither_traceback_nor_markup(client: Client) -> None:
    assert [f"{one.name}: {problem}" for one in MOE_CALLS if (problem := problem_of(client, one))] == []
