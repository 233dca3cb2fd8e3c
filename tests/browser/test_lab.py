"""A newcomer's first minutes: JupyterLab opens at chapter 00 in a real browser, and every cell runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Locator, Page, expect

from dslearn.cli.lab import FIRST_CHAPTER
from tests.browser.chromium import ROOT, screenshot, unavailable

OPEN_SECONDS, RUN_SECONDS = 60, 300

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the course without outputs: what the browser saves must not touch the original."""
    if not (ROOT / FIRST_CHAPTER).is_file():
        unavailable("the first chapter is not here: nothing to open")
    course = tmp_path_factory.mktemp("course")
    for folder in ("chapters", "book", "exercises"):
        shutil.copytree(ROOT / folder, course / folder)
    for chapter in (course / "chapters").glob("*.ipynb"):
        notebook = nbformat.read(chapter, as_version=4)
        for cell in code_cells(notebook):
            cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, chapter)
    return course


@pytest.fixture(scope="module")
def address(course: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "dslearn.cli", "lab", "--no-browser", "--port", str(free_port())]
    # A workspace of its own: JupyterLab would open again what was open the last time.
    environment = {**os.environ, "JUPYTERLAB_WORKSPACES_DIR": str(course / "workspaces")}
    process = subprocess.Popen(command, cwd=course, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield next(line.strip() for line in process.stdout if "http://" in line)
    finally:
        process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
        process.wait(timeout=120)  # its kernels stop first


@pytest.mark.parametrize("chapter", sorted(path.name for path in (ROOT / "chapters").glob("*.ipynb")))
def test_jupyterlab_opens_a_chapter_and_runs_it_whole(course: Path, address: str, page: Page, chapter: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    open_when_up(page, address.replace(FIRST_CHAPTER.name, chapter))
    kernel_is_up(page)
    expect(page.locator(".jp-RenderedMarkdown h1").first).to_be_visible(timeout=1000 * OPEN_SECONDS)
    screenshot(page, f"lab_{chapter[:2]}_opened")

    choose(page, "Run", "Run All Cells")
    notebook = saved_when_run(page, course / "chapters" / chapter)
    screenshot(page, f"lab_{chapter[:2]}_run")
    assert errors(notebook) == []
    assert [cell.source for cell in code_cells(notebook) if cell.execution_count is None] == []
    assert page.locator(".Toastify__toast").all_inner_texts() == []
    assert {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))} == {"127.0.0.1"}


WRONG = "def bits_per_byte(nats, num_bytes):\nreturn nats.sum().item() / num_bytes\n"
RIGHT = "def bits_per_byte(nats, num_bytes):\nreturn nats.sum().item() / math.log(2) / num_bytes\n"


def test_an_exercise_from_stub_to_done(course: Path, address: str, page: Page) -> None:
    where = "work/00_start_here.ipynb"
    open_when_up(page, address.replace(FIRST_CHAPTER.as_posix(), where))
    kernel_is_up(page)
    imports, answer, _, check = (page.locator(".jp-CodeCell").nth(number) for number in range(4))
    run_cell(page, imports)
    expect(imports.locator(".jp-InputPrompt")).to_have_text("[1]:", timeout=1000 * OPEN_SECONDS)

    run_cell(page, answer)
    first = feedback_after(page, check, "not started")
    run_cell(page, answer, WRONG)
    wrong = feedback_after(page, check, "not yet")
    expect(check).to_contain_text("nats for each byte")
    screenshot(page, "exercise_not_yet")
    run_cell(page, answer, RIGHT)
    right = feedback_after(page, check, "done")
    screenshot(page, "exercise_done")
    print(f"seconds to feedback: stub {first:.2f}, wrong {wrong:.2f}, right {right:.2f}")
    assert max(wrong, right) < 3  # the bar is one second, on a quiet machine
    ledger = json.loads((course / "work" / "claims.json").read_text(encoding="utf-8"))
    assert ledger["exercises"]["00.1"]["state"] == "done"


CELLS = [
    "from dslearn.course import progress_board\nfrom dslearn.widgets import SparseMaskExplorer",
    "explorer = SparseMaskExplorer()\nexplorer",
    "print(explorer.pattern, explorer.position, explorer.top_k)",
    'explorer.pattern = "window"',
    "progress_board()",
    "from dslearn.course.feedback import Feedback\nfrom dslearn.course.progress import record\n"
    'record(Feedback("01.9", "An offer", "done", "Well."))',
]


def opened_with(page: Page, address: str, path: Path, sources: list[str]) -> list[Locator]:
    """The cells of a new notebook in JupyterLab, with its kernel up; ``path`` is in the chapters' folder."""
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [new_code_cell(source) for source in sources]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernelspec}), path)
    open_when_up(page, address.replace(FIRST_CHAPTER.name, path.name))
    kernel_is_up(page)
    return [page.locator(".jp-CodeCell").nth(at) for at in range(len(sources))]


def test_widgets_and_their_kernel_follow_each_other(course: Path, address: str, page: Page) -> None:
    cells = opened_with(page, address, course / "chapters" / "widgets.ipynb", CELLS)
    imports, shown, printed, assigned, board, recorded = cells
    run_cell(page, imports)
    run_cell(page, shown)
    mask = shown.locator("canvas.mask")
    expect(mask).to_be_visible(timeout=1000 * OPEN_SECONDS)
    mask.hover(position={"x": 40, "y": 40})
    expect(shown.locator(".sentence")).to_contain_text(re.compile(r"^Token (9\d|1[01]\d) reads"))
    mask.press("End")
    shown.get_by_label("Budget in blocks").press("ArrowRight")
    expect(shown.locator(".sentence")).to_contain_text("Token 1,023 reads 64 of")
    page.wait_for_timeout(500)  # the levels of the search fade in
    screenshot(page, "lab_explorer")  # the README's picture
    run_cell(page, printed)
    expect(printed.locator(".jp-OutputArea-output")).to_have_text("tree 1023 8")
    run_cell(page, assigned)
    expect(shown.get_by_label("Pattern")).to_have_value("window: the nearest blocks")

    run_cell(page, board)
    row = board.locator("tr", has_text="01.9")
    expect(row).to_contain_text("not started")
    run_cell(page, recorded)
    board.get_by_role("button", name="Look again").click()
    expect(row).to_contain_text("done")
    screenshot(page, "lab_board")


TRAINING = [
    "from dataclasses import replace\n"
    "from lightning.pytorch import Callback\n"
    "from dslearn.data import ByteTokenizer, TokenStream, encode_documents, load_documents\n"
    "from dslearn.moe import load_report\n"
    "from dslearn.training import MixtureRecipe, fit_mixture\n"
    "from dslearn.widgets import ExpertLoadExplorer",
    "explorer = ExpertLoadExplorer()\nexplorer",
    """class Watch(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        explorer.show(outputs["wanted"].int(), step=trainer.global_step)

recipe = replace(MixtureRecipe(), steps=12, settle_steps=0)
tokens = encode_documents(load_documents("prose", "train")[:20], ByteTokenizer(), shuffle_seed=0)
stream = TokenStream(tokens, batch_size=8, seq_len=256, seed=0)
fit_mixture(recipe.new_model("bias"), recipe, stream.batch, callbacks=[Watch()])
print(f"{100 * load_report(explorer.loads()[0]).utilisation:.3g} % after", len(explorer.real), "steps")""",
]
NOTE_SENTENCES = """sentence => {
  window.sentences = [];
  new MutationObserver(() => window.sentences.push(sentence.textContent))
    .observe(sentence, { childList: true, characterData: true, subtree: true });
}"""


def test_a_training_run_feeds_the_explorer_while_it_trains(course: Path, address: str, page: Page) -> None:
    imports, shown, training = opened_with(page, address, course / "chapters" / "training.ipynb", TRAINING)
    run_cell(page, imports)
    run_cell(page, shown)
    sentence = shown.locator(".sentence")
    expect(sentence).to_contain_text("Step 1:", timeout=1000 * OPEN_SECONDS)
    sentence.evaluate(NOTE_SENTENCES)
    run_cell(page, training)
    printed = training.locator(".jp-OutputArea-output", has_text="% after 12 steps")
    expect(printed).to_be_visible(timeout=1000 * RUN_SECONDS)
    expect(training).to_contain_text("12/12")
    expect(sentence).to_contain_text(f"Training step 12: the experts are used to {printed.inner_text().split()[0]} %")
    seen = {text.partition(":")[0] for text in page.evaluate("window.sentences")}
    screenshot(page, "lab_training")
    assert len(seen) >= 4, seen  # not all at once, when it was over


def run_cell(page: Page, cell: Locator, source: str | None = None) -> None:
    """Click into a cell, type ``source`` in place of what is there, and run it; the editor indents after a colon."""
    cell.locator(".cm-content").click()
    if source is not None:
        page.keyboard.press("Control+A")
        page.keyboard.type(source)
    page.keyboard.press("Control+Enter")


def feedback_after(page: Page, check: Locator, says: str) -> float:
    """Run a check; the seconds until its feedback is on the screen."""
    started = time.monotonic()
    run_cell(page, check)
    expect(check.locator(".jp-OutputArea-output").first).to_contain_text(f": {says}", timeout=10_000)
    return time.monotonic() - started


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def open_when_up(page: Page, address: str) -> None:
    """Open a page when the server answers, and nothing beside it that an earlier page had open."""
    where = urlsplit(address)
    for _ in range(10 * OPEN_SECONDS):
        with socket.socket() as probe:
            if probe.connect_ex((where.hostname, where.port)) == 0:
                page.goto(f"{address}&reset", timeout=1000 * OPEN_SECONDS)
                return
        time.sleep(0.1)
    pytest.fail(f"nothing answers at {address}")


def kernel_is_up(page: Page) -> None:
    """Wait until the kernel answers: its name is there before it is, and a cell run then is dropped without a word."""
    status = page.locator("#jp-main-statusbar").get_by_text(re.compile(r"^Python 3 .*\| Idle$"))
    expect(status).to_be_visible(timeout=1000 * OPEN_SECONDS)


def choose(page: Page, menu: str, entry: str) -> None:
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile(f"^{menu}$")).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}$")).click()


def saved_when_run(page: Page, path: Path) -> nbformat.NotebookNode:
    """The notebook as the browser saved it once every cell had run or one had failed."""
    deadline = time.monotonic() + RUN_SECONDS
    while True:
        page.wait_for_timeout(1000)
        choose(page, "File", "Save Notebook")
        notebook = read_when_whole(path)
        done = all(cell.execution_count is not None for cell in code_cells(notebook))
        if done or errors(notebook) or time.monotonic() > deadline:
            return notebook


def read_when_whole(path: Path) -> nbformat.NotebookNode:
    """The notebook; the server writes in place, so a reader can come upon half of it."""
    for _ in range(100):
        try:
            return nbformat.read(path, as_version=4)
        except nbformat.reader.NotJSONError:
            time.sleep(0.1)
    pytest.fail(f"{path} stays unreadable")


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def errors(notebook: nbformat.NotebookNode) -> list[str]:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return [f"{output.ename}: {output.evalue}" for output in outputs if output.output_type == "error"]
