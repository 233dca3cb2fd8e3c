"""``dslearn lab``: JupyterLab at the first chapter, reachable from this machine only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from dslearn._extras import require
from dslearn.cli import CommandError
from dslearn.cli.ports import ADDRESS, check_port
from dslearn.course.ledger import LedgerError
from dslearn.course.workfolder import offer_exercises

# Jupyter settings of our own: they switch off the extension that asks about news, whatever the user's are.
_SETTINGS = Path(__file__).with_name("jupyter")
FIRST_CHAPTER = Path("chapters", "00_start_here.ipynb")


def open_lab(*, port: int = 8888, browser: bool = True) -> int:
    """Serve the course until Ctrl-C and return the exit code.

    Raises:
        CommandError: the chapters are not here, or the port is in use.
        MissingExtraError: JupyterLab is not installed.
    """
    labapp = require("jupyterlab.labapp", "course")
    root = find_course()
    check_port(port, "dslearn lab")
    offer(root)
    token = secrets.token_hex(16)
    page = f"/lab/tree/{FIRST_CHAPTER.as_posix()}"
    print("JupyterLab is starting. In a few seconds it answers, on this machine only, at\n")
    print(f"    http://{ADDRESS}:{port}{page}?token={token}\n")
    print("Ctrl-C here ends it.", flush=True)
    others = os.environ.get("JUPYTER_CONFIG_PATH", "")
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, (str(_SETTINGS), others)))
    labapp.LabApp.launch_instance(server_arguments(root, port=port, page=page, token=token, browser=browser))
    return 0


def offer(root: Path) -> None:
    """Put exercises into ``work/`` where there are none yet, and say what was done."""
    try:
        for made in offer_exercises(root):
            print(made)
    except LedgerError as error:
        print(f"The exercises cannot be copied: {error}")


def find_course() -> Path:
    """The folder that holds ``chapters/``: the current one, or the clone that this package is imported from.

    Raises:
        CommandError: neither holds the first chapter.
    """
    places = (Path.cwd(), Path(__file__).resolve().parents[2])
    for place in places:
        if (place / FIRST_CHAPTER).is_file():
            return place
    raise CommandError(
        f"{FIRST_CHAPTER} is neither in {places[0]} nor beside the installed package. "
        "The chapters are not part of the wheel: clone the repository and run `dslearn lab` inside the clone."
    )


def server_arguments(root: Path, *, port: int, page: str, token: str, browser: bool) -> list[str]:
    """JupyterLab's command line: one address, one port, no question at the end, no request elsewhere."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return [
        f"--ServerApp.root_dir={root}",
        f"--ServerApp.ip={ADDRESS}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.default_url={page}",
        f"--ServerApp.open_browser={browser}",
        f"--ServerApp.allow_root={is_root}",
        f"--IdentityProvider.token={token}",
        "--ServerApp.answer_yes=True",  # or the first Ctrl-C asks whether it was meant
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
        "--Application.log_level=WARN",
    ]
