"""``dslearn demo``: a chapter's Gradio app, reachable from this machine only."""

from __future__ import annotations

from importlib import import_module

from dslearn.cli import CommandError
from dslearn.cli.ports import check_port
from dslearn.demos.serve import gradio, serve


def open_demo(name: str, *, port: int = 7860, browser: bool = True) -> int:
    """Serve one of ``dslearn.demos.DEMOS`` until Ctrl-C and return the exit code.

    Raises:
        CommandError: the port is in use, or the demo's model is missing or damaged.
        MissingExtraError: Gradio, or a package the demo draws with, is not installed.
    """
    check_port(port, f"dslearn demo {name}")
    gradio()
    app = import_module(f"dslearn.demos.{name}.app")
    try:
        loaded = app.load()
    except (FileNotFoundError, ValueError) as error:
        raise CommandError(f"the demo's model cannot be loaded. {error}") from error
    page = app.build(loaded)
    try:
        serve(page, port=port, browser=browser, css=app.PAGE_CSS)
    except OSError as error:
        raise CommandError(f"port {port} cannot be served: {error}") from error
    return 0
