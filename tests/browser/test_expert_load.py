"""The explorer of experts' loads on a page without a kernel: played, stepped, set by mouse and keyboard, everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Locator, Page, expect

from dslearn.moe import load_report
from dslearn.widgets import ExpertLoadExplorer
from tests.browser.chromium import screenshot, serious
from tests.browser.static import FIRST_PAINT_MS, FRAMES_A_SECOND, SCREENS, first_paint, on_screen, watched, written

DRAWN = ".dslearn-explorer .chart"

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("loads"), ExpertLoadExplorer())


@pytest.fixture
def shown(page: Page, address: str) -> Iterator[Page]:
    with watched(page, address, DRAWN):
        yield page


def slider(page: Page, label: str) -> Locator:
    """The slider of that label, which its value follows."""
    return page.get_by_label(re.compile(rf"^{label} [\d.]+$"))


def use(page: Page) -> float:
    """The use that is printed, in percent."""
    return float(page.locator("dl.facts dd").first.inner_text().removesuffix(" %"))


def expect_use(page: Page, explorer: ExpertLoadExplorer) -> None:
    """What the page prints is what the library counts for the same settings."""
    counts, dropped = explorer.loads()
    told = load_report(counts, dropped=dropped)
    expect(page.locator(".bar")).to_have_count(explorer.experts)
    expect(page.locator("dl.facts dd").first).to_have_text(re.compile(rf"^{_three_figures(100 * told.utilisation)} %$"))
    expect(page.locator("dl.facts dd").last).to_have_text(re.compile(rf"^{_three_figures(100 * told.drop_rate)} %$"))


def _three_figures(value: float) -> str:
    return re.escape(f"{float(f'{value:.3g}'):g}")


def test_every_control_does_what_the_library_does(shown: Page) -> None:
    state = {"step": 1}
    expect_use(shown, ExpertLoadExplorer())
    for label, at, setting in (
        ("Experts", 1, {"experts": 8}),
        ("Experts a token", 2, {"top_k": 3}),
        ("Skew of the router", 7, {"skew": 3.5}),
    ):
        slider(shown, label).fill(str(at))
        state |= setting
        expect_use(shown, ExpertLoadExplorer(**state))
    for label, option, setting in (
        ("Balanced by", "a bias in the choice", {"balance": "bias"}),
        ("Room of an expert", "1.2 even shares", {"capacity": 1.2}),
        ("Without room, a choice is", "sent to the next choice", {"overflow": "reroute"}),
    ):
        shown.get_by_label(label).select_option(label=option)
        state |= setting
        expect_use(shown, ExpertLoadExplorer(**state))
    for _ in range(3):
        shown.get_by_role("button", name="One step").click()
    expect_use(shown, ExpertLoadExplorer(**(state | {"step": 4})))
    shown.get_by_role("button", name="Start again").click()
    expect_use(shown, ExpertLoadExplorer(**state))


def test_it_plays_and_pauses(shown: Page) -> None:
    shown.get_by_label("Balanced by").select_option(label="a bias in the choice")
    before = use(shown)
    shown.get_by_role("button", name="Play").click()
    expect(shown.locator(".sentence")).to_have_text(re.compile(r"^Step \d\d"), timeout=20_000)
    shown.get_by_role("button", name="Pause").click()
    step = shown.locator(".sentence").inner_text()
    shown.wait_for_timeout(600)
    assert shown.locator(".sentence").inner_text() == step
    assert use(shown) != before


def test_by_keyboard_alone(shown: Page) -> None:
    shown.get_by_role("button", name="One step").focus()
    shown.keyboard.press("Enter")
    shown.keyboard.press("Space")
    expect(shown.locator(".sentence")).to_have_text(re.compile("^Step 3:"))
    slider(shown, "Step").focus()
    shown.keyboard.press("End")
    expect(shown.locator(".sentence")).to_have_text(re.compile("^Step 200:"), timeout=20_000)
    expect(shown.locator("[role=status]")).to_have_text(re.compile("^Step 200: the experts are used to"))
    slider(shown, "Experts a token").focus()
    shown.keyboard.press("Home")
    expect_use(shown, ExpertLoadExplorer(top_k=1, step=200))


def test_what_does_not_apply_is_switched_off(shown: Page) -> None:
    overflow = shown.get_by_label("Without room, a choice is")
    expect(overflow).to_be_disabled()
    shown.get_by_label("Room of an expert").select_option(label="1.5 even shares")
    expect(overflow).to_be_enabled()
    expect(shown.locator(".level.full")).to_be_visible()


def test_calm_readers_get_a_calm_pace(chromium: Browser, address: str) -> None:
    page = chromium.new_context(reduced_motion="reduce").new_page()
    page.goto(address)
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(2500)
    (step,) = re.findall(r"^Step (\d+):", page.locator(".sentence").inner_text())
    assert 2 <= int(step) <= 4


def test_dragging_the_skew_is_smooth(shown: Page) -> None:
    frames = shown.evaluate(DRAG_SKEW)
    print(f"{frames:.0f} frames a second while the skew is dragged")
    assert frames >= FRAMES_A_SECOND


# Each frame gets an event, as a moving hand gives; counted are frames in which the sentence was new.
DRAG_SKEW = """() => new Promise(done => {
  const slider = [...document.querySelectorAll("label")].find(l => l.textContent.startsWith("Skew")).control;
  const sentence = document.querySelector(".sentence"), start = performance.now();
  let frames = 0, before = "", value = 0;
  const step = () => {
    if (sentence.textContent !== before) frames++;
    before = sentence.textContent;
    const passed = performance.now() - start;
    if (passed > 2000) return done(frames / passed * 1000);
    slider.value = value = (value + 1) % 9;
    slider.dispatchEvent(new Event("input"));
    requestAnimationFrame(step);
  };
  step();
})"""


def test_first_paint(chromium: Browser, address: str) -> None:
    assert first_paint(chromium, address, ".dslearn-explorer .bar") <= FIRST_PAINT_MS


def test_a_real_run_without_a_kernel_shows_its_steps(page: Page, tmp_path: Path) -> None:
    explorer = ExpertLoadExplorer()
    for step, counts in enumerate(([[9, 3], [4, 8]], [[7, 5], [6, 6]]), start=10):
        explorer.show(torch.tensor(counts), step=step)
    with watched(page, written(tmp_path, explorer), DRAWN):
        expect(page.locator(".sentence")).to_contain_text("Training step 11: the experts are used to 85.7 %")
        page.get_by_label("Layer").select_option(label="layer 2")
        expect(page.locator(".sentence")).to_contain_text("Training step 11: the experts are used to 100 %")
        page.get_by_role("button", name="Start again").click()
        expect(page.locator(".sentence")).to_contain_text("Training step 10: the experts are used to 75 %")


@SCREENS
def test_it_fits(chromium: Browser, address: str, name: str, width: int, scheme: str) -> None:
    page = on_screen(chromium, address, width, scheme)
    page.get_by_label("Room of an expert").select_option(label="1.2 even shares")
    for _ in range(8):
        page.get_by_role("button", name="One step").click()
    page.wait_for_timeout(300)
    screenshot(page, f"loads_{name}", full_page=True)
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
