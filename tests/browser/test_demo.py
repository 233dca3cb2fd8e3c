"""The attention demo in a real browser: typed into, moved by keyboard, attacked, and looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.chromium import Watched, screenshot, serious
from tests.demos.malformed import STRANGE
from tests.demos.serving import served

SECONDS = 1000

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served("attention", tmp_path_factory.mktemp("demo")) as demo:
        yield demo.address
    assert "Traceback" not in demo.printed


def test_a_reader_types_moves_and_sees_what_is_read(address: str, watched: Watched) -> None:
    page = watched.page
    page.goto(address)
    expect(marks(page).first).to_be_visible(timeout=30 * SECONDS)
    screenshot(page, "demo_wide", full_page=True)
    assert serious(page) == []

    show(page, "import math\n\ndef area(radius):\n    return math.pi * radius")
    expect(page.locator(".reading .text")).to_have_text(re.compile(r"return math\.pi \* radius$"))
    expect(shown_token(page)).to_have_text("us")
    expect(page.locator(".reading p").first).to_contain_text("In layer 1, head 1, token")
    page.get_by_label("head 2").press("Space")
    expect(page.locator(".reading p").first).to_contain_text("head 2")
    slider = page.get_by_role("slider", name="Reading token").first
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".reading .text")).to_have_text(re.compile(r"return math\.pi \* radi$"))
    expect(page.locator(".reading").first).to_contain_text("1 later hidden")
    watched.assert_quiet()


def test_both_samples_stream(address: str, watched: Watched) -> None:
    page = watched.page
    page.goto(address)
    expect(marks(page).first).to_be_visible(timeout=30 * SECONDS)
    page.get_by_role("tab", name="Writing").click()
    page.get_by_role("button", name="Write on").click()
    dense, sparse = (page.get_by_label(f"{name}: written") for name in ("Dense", "Sparse"))
    expect(dense).to_have_value(re.compile("."), timeout=10 * SECONDS)
    early = len(dense.input_value())
    expect(page.get_by_text(re.compile("tokens sparse attention reads|reads everything"))).to_be_visible(
        timeout=60 * SECONDS
    )
    assert 0 < early < len(dense.input_value())
    assert sparse.input_value()
    expect(page.get_by_text(re.compile(r"First token after \d+ ms, then"))).to_have_count(2)
    screenshot(page, "demo_writing", full_page=True)
    watched.assert_quiet()


def test_the_machine_is_measured(address: str, watched: Watched) -> None:
    page = watched.page
    page.goto(address)
    page.get_by_role("tab", name="Time").click()
    page.get_by_role("button", name="Measure on this machine").click()
    expect(page.get_by_text("Measuring")).to_be_visible()
    picture = page.locator(".picture img")
    expect(picture).to_have_attribute("alt", re.compile("Time in ms against length"), timeout=60 * SECONDS)
    expect(page.get_by_text(re.compile(r"Measured on .* threads"))).to_be_visible(timeout=120 * SECONDS)
    screenshot(page, "demo_timing", full_page=True)
    watched.assert_quiet()


ATTACKS = [name for name, text in STRANGE.items() if "taken" in text or "{{" in text or "meta" in name]


def test_pasted_markup_stays_text(address: str, watched: Watched) -> None:
    page = watched.page
    page.goto(address)
    expect(marks(page).first).to_be_visible(timeout=30 * SECONDS)
    title = page.title()
    for name in ATTACKS:
        show(page, STRANGE[name])
        ending = STRANGE[name].strip()[-3:]
        expect(page.locator(".reading .text"), name).to_have_text(re.compile(re.escape(ending[-1]) + r"\s*$"))
        page.wait_for_timeout(100)
        assert page.locator(".reading :is(img, script, iframe, a, textarea, style, meta)").count() == 0, name
        assert page.title() == title, name
    watched.assert_quiet()


def test_nothing_to_read_is_told_in_words(address: str, watched: Watched) -> None:
    page = watched.page
    page.goto(address)
    expect(marks(page).first).to_be_visible(timeout=30 * SECONDS)
    show(page, "   ")
    expect(page.get_by_text("The text is empty. Write or paste something, or take an example.")).to_be_visible()
    watched.assert_quiet()


@pytest.mark.parametrize(
    ("name", "width", "theme"),
    [("demo_phone", 390, "light"), ("demo_dark", 1280, "dark"), ("demo_phone_dark", 390, "dark")],
)
def test_it_fits_every_screen(address: str, watched: Watched, name: str, width: int, theme: str) -> None:
    page = watched.page
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{address}?__theme={theme}")
    expect(marks(page).first).to_be_visible(timeout=30 * SECONDS)
    screenshot(page, name, full_page=True)
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    watched.assert_quiet()


def marks(page: Page) -> Locator:
    return page.locator(".reading .text mark")


def shown_token(page: Page) -> Locator:
    return page.locator(".reading .text .token")


def show(page: Page, text: str) -> None:
    page.get_by_label("Text or code").fill(text)
    page.get_by_role("button", name="Show what is read").click()
