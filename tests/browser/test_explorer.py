"""The explorer on a page without a kernel, in a real browser: by mouse, keyboard and touch, and at every width."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from dslearn.widgets import SparseMaskExplorer
from tests.browser.chromium import screenshot, serious
from tests.browser.static import FIRST_PAINT_MS, FRAMES_A_SECOND, SCREENS, first_paint, on_screen, watched, written

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def explorer() -> SparseMaskExplorer:
    return SparseMaskExplorer()


@pytest.fixture(scope="module")
def address(explorer: SparseMaskExplorer, tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("explorer"), explorer)


@pytest.fixture
def shown(page: Page, address: str) -> Iterator[Page]:
    with watched(page, address, "canvas.mask"):
        yield page


def fact(page: Page, name: str) -> str:
    return page.locator(f"dl.facts div:has(dt:text-is('{name}')) dd").inner_text()


def first_number(text: str) -> int:
    return int(re.match(r"[\d,]+", text).group().replace(",", ""))


def test_what_it_says_is_what_the_library_counts(shown: Page, explorer: SparseMaskExplorer) -> None:
    for pattern, label in {
        "tree": "tree",
        "flat": "each of them",
        "window": "nearest",
        "token": "single",
        "dense": "every",
    }.items():
        choose(shown, "Pattern", label)
        reader = SparseMaskExplorer(pattern=pattern)
        mask = reader.mask()
        expect(shown.locator("dl.facts dd").first).to_have_text(re.compile(f"^{int(mask.sum()):,} of "))
        here = reader.position
        expect(shown.locator(".sentence")).to_contain_text(
            f"Token {here:,} reads {int(mask[here].sum()):,} of {here + 1:,}"
        )


def choose(page: Page, control: str, contains: str) -> None:
    select = page.get_by_label(control)
    select.select_option(label=next(text for text in select.locator("option").all_inner_texts() if contains in text))


def test_by_mouse(shown: Page) -> None:
    box = shown.locator("canvas.mask").bounding_box()
    shown.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.75)
    expect(shown.locator(".sentence")).to_contain_text(re.compile(r"^Token 7[67]\d reads"))
    shown.locator(".text span").nth(40).hover()
    expect(shown.locator(".sentence")).to_contain_text("Token 40 reads")
    expect(shown.locator(".text .query")).to_have_count(1)


def test_by_keyboard(shown: Page) -> None:
    shown.locator("canvas.mask").focus()
    for key, token in {"Home": "0", "ArrowDown": "1", "PageDown": "9", "ArrowUp": "8", "End": "1,023"}.items():
        shown.keyboard.press(key)
        expect(shown.locator(".sentence")).to_contain_text(f"Token {token} reads")
    assert shown.locator("canvas.mask").get_attribute("aria-valuenow") == "1023"
    before = fact(shown, "Pairs read")
    shown.get_by_label("Budget in blocks").focus()
    shown.keyboard.press("ArrowRight")
    expect(shown.locator("dl.facts dd").first).not_to_have_text(before)
    assert first_number(fact(shown, "Pairs read")) > first_number(before)


def test_what_does_not_apply_is_switched_off(shown: Page) -> None:
    choose(shown, "Pattern", "every")
    expect(shown.get_by_label("Budget in blocks")).to_be_disabled()
    choose(shown, "Pattern", "single")
    expect(shown.get_by_label("Who chooses")).to_be_disabled()
    expect(shown.get_by_label("Budget in blocks")).to_be_enabled()
    choose(shown, "Pattern", "tree")
    choose(shown, "Who chooses", "together")
    shown.get_by_label("Keys a block").fill("3")
    expect(shown.locator(".sentence")).to_contain_text("Finding them took")


def test_a_screen_reader_hears_what_changed(shown: Page) -> None:
    choose(shown, "Pattern", "nearest")
    expect(shown.locator("[role=status]")).to_have_text(re.compile(r"nearest blocks: [\d.]+ % of all pairs are read\."))
    assert "Token" in shown.locator("canvas.mask").get_attribute("aria-valuetext")


@pytest.mark.parametrize("tokens", [1024, 4096])
def test_it_is_quick(shown: Page, tokens: int) -> None:
    slider = shown.get_by_label("Length in tokens")
    slider.fill(str({1024: 4, 4096: 6}[tokens]))
    expect(shown.locator("canvas.mask")).to_have_attribute("aria-valuemax", str(tokens - 1))
    moved = shown.evaluate(DRAG_ACROSS_MASK)
    changed = shown.evaluate(DRAG_BUDGET)
    print(f"{tokens} tokens: {moved:.0f} frames a second over the mask, {changed:.0f} while the budget is dragged")
    assert moved >= FRAMES_A_SECOND
    assert changed >= (FRAMES_A_SECOND if tokens == 1024 else 5)


# Each frame gets an event, as a moving hand gives; counted are frames in which the sentence or the mask was new.
DRAG_ACROSS_MASK = """() => new Promise(done => {
  const mask = document.querySelector("canvas.mask"), sentence = document.querySelector(".sentence");
  const box = mask.getBoundingClientRect(), start = performance.now();
  let frames = 0, before = "";
  const step = () => {
    if (sentence.textContent !== before) frames++;
    before = sentence.textContent;
    const passed = performance.now() - start;
    if (passed > 2000) return done(frames / passed * 1000);
    const clientY = box.top + box.height * (0.5 + 0.49 * Math.sin(passed / 300));
    mask.dispatchEvent(new PointerEvent("pointermove", { pointerType: "mouse", clientX: box.left + 9, clientY }));
    requestAnimationFrame(step);
  };
  step();
})"""
DRAG_BUDGET = """() => new Promise(done => {
  const slider = [...document.querySelectorAll("label")].find(l => l.textContent.startsWith("Budget")).control;
  const pairs = document.querySelector("dl.facts dd"), start = performance.now();
  let frames = 0, before = "", value = 0;
  const step = () => {
    if (pairs.textContent !== before) frames++;
    before = pairs.textContent;
    const passed = performance.now() - start;
    if (passed > 2000) return done(frames / passed * 1000);
    slider.value = value = (value + 1) % 5;
    slider.dispatchEvent(new Event("input"));
    requestAnimationFrame(step);
  };
  step();
})"""


def test_first_paint(chromium: Browser, address: str) -> None:
    assert first_paint(chromium, address, "canvas.mask[aria-valuenow]") <= FIRST_PAINT_MS


def test_two_on_a_page_live_each_by_itself(page: Page, explorer: SparseMaskExplorer, tmp_path: Path) -> None:
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    other = SparseMaskExplorer(pattern="window", tokens=64)
    page.goto(written(tmp_path, explorer, other))
    expect(page.locator("canvas.mask")).to_have_count(2)
    first, second = (page.locator(".dslearn-explorer").nth(at) for at in range(2))
    second.locator("canvas.mask").press("Home")
    expect(second.locator(".sentence")).to_contain_text("Token 0 reads")
    expect(first.locator(".sentence")).to_contain_text("Token 768 reads")
    assert complaints == [] and page.locator(".dslearn-picture").count() == 0


def test_without_javascript_the_picture_stays(chromium: Browser, address: str) -> None:
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.goto(address)
    picture = page.locator(".dslearn-picture img")
    expect(picture).to_be_visible()
    assert "reads" in (picture.get_attribute("alt") or "")


@SCREENS
def test_it_fits(chromium: Browser, address: str, name: str, width: int, scheme: str) -> None:
    page = on_screen(chromium, address, width, scheme)
    if width < 500:
        page.locator("canvas.mask").tap(position={"x": 100, "y": 100})
        expect(page.locator(".sentence")).not_to_contain_text("Token 1,023 ")
        page.wait_for_timeout(800)
    screenshot(page, f"explorer_{name}")
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
