"""What all demos share: Gradio itself, how a mistake is told, and how a page is served."""

from __future__ import annotations

import html
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dslearn._extras import require
from dslearn.demos.inputs import InputError

ADDRESS = "127.0.0.1"
# One at a time: the timings are the machine's own, and nobody waits long.
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
# What comes in is looked at by `inputs` alone: Gradio's own checks would print tracebacks.
UNTOUCHED: dict[str, Any] = {"preprocess": False}
_WAITING = 32
_CSS = """
.block .html-container { padding: 0; }
.picture img { max-width: 100%; height: auto; }
button[role="tab"].selected { color: var(--link-text-color); }
"""


def gradio() -> Any:
    """The module, with its statistics switched off.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = (
        "1000000000"  # its own counts would cost each first answer a second
    )
    return require("gradio", "demos")


@contextmanager
def told_plainly() -> Iterator[None]:
    """An ``InputError`` inside becomes a message on the page and to the API's caller, not a traceback."""
    try:
        yield
    except InputError as error:
        # The message is shown as HTML.
        raise gradio().Error(html.escape(str(error)), print_exception=False) from None


def new_page(title: str) -> Any:
    """An empty Gradio ``Blocks``, to be filled in a ``with``."""
    page = gradio().Blocks(title=title, analytics_enabled=False)
    page.validate_inputs = _require_all  # Gradio's own would print a traceback
    return page


def _require_all(function: Any, given: list[Any]) -> None:
    """Tell a caller of the API which values a call needs, if some are missing."""
    needed = [component.label for component in function.inputs]
    with told_plainly():
        if len(given) < len(needed):
            raise InputError(f"The call needs {len(needed)} values ({', '.join(needed)}), not {len(given)}.")


def serve(page: Any, *, port: int, browser: bool, css: str = "") -> None:
    """Serve a page on this machine only, until Ctrl-C.

    Raises:
        OSError: the port was taken meanwhile.
    """
    print(f"In some seconds the demo answers, on this machine only, at\n\n    http://{ADDRESS}:{port}/\n")
    print("Ctrl-C here ends it.", flush=True)
    try:
        _launch(page, port=port, browser=browser, css=css)
        while page.is_running:
            time.sleep(0.1)
    finally:
        page.close(verbose=False)


def _launch(page: Any, *, port: int, browser: bool, css: str) -> None:
    """Start the server in the background, for this machine only, whatever the environment's GRADIO_ variables say."""
    for name in ("no_proxy", "NO_PROXY"):  # Gradio asks its own server whether it is up
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), ADDRESS)))
    page.queue(max_size=_WAITING, default_concurrency_limit=1)
    page.launch(
        server_name=ADDRESS,
        server_port=port,
        share=False,
        inbrowser=browser,
        prevent_thread_lock=True,
        quiet=True,
        show_error=False,
        footer_links=["api", "settings"],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        root_path="",
        theme=_theme(),
        css=_CSS + css,
    )


def _theme() -> Any:
    """Gradio's own, whose fonts it ships itself, with enough contrast for small print and buttons."""
    return (
        gradio()
        .themes.Default(primary_hue="blue", neutral_hue="stone")
        .set(
            body_text_color_subdued="*neutral_600",
            block_info_text_color="*neutral_600",
            button_primary_background_fill="*primary_700",
            button_primary_background_fill_hover="*primary_800",
            button_primary_background_fill_dark="*primary_700",
            button_primary_background_fill_hover_dark="*primary_600",
        )
    )
