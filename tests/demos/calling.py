"""A demo's API, called as its users call it, and with what no user should send."""

from __future__ import annotations

import json
from typing import Any

import httpx
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.demos.malformed import Call
from tests.demos.markup import Markup

HTML = {"read": 2, "route": 3}  # how many of an endpoint's answers are HTML


def call(client: Client, endpoint: str, **arguments: Any) -> Any:
    return client.predict(*arguments.values(), api_name=f"/{endpoint}")


def call_plainly(client: Client, endpoint: str, arguments: dict[str, Any]) -> Any:
    """Without the client, which cannot send halves of characters, as browsers do."""
    address = f"{client.src}gradio_api/call/{endpoint}"
    body, kind = json.dumps({"data": [*arguments.values()]}), {"content-type": "application/json"}
    event = httpx.post(address, content=body, headers=kind).json()["event_id"]
    *_, last = httpx.get(f"{address}/{event}", timeout=60).text.strip().split("\n\n")
    kind, data = (line.partition(": ")[2] for line in last.split("\n"))
    if kind == "error":
        raise AppError(json.loads(data)["error"])
    return json.loads(data)


def problem_of(client: Client, one: Call) -> str | None:
    """What is wrong with the answer to a malformed call."""
    try:
        if "surrogate" in one.name:
            answer = call_plainly(client, one.endpoint, one.arguments)
        else:
            answer = call(client, one.endpoint, **one.arguments)
    except AppError as error:
        words = str(error)
        if not one.refused:
            return f"refused: {words}"
        return None if words.startswith("The ") and "<" not in words else f"unclear words: {words}"
    if one.refused:
        return "taken"
    foreign = set().union(*(Markup(html).foreign for html in answer[: HTML.get(one.endpoint, 0)]))
    return f"markup: {foreign}" if foreign else None
