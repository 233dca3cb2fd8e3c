"""One Chromium for all browser tests, and a page of its own for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from dslearn.cli.doctor import find_browser
from tests.browser.chromium import CHROMIUM_FLAGS, Watched, unavailable


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    browser = find_browser()
    if browser is None:
        unavailable("no Chromium here: apt install chromium, or Google Chrome")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser, args=CHROMIUM_FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture
def watched(chromium: Browser) -> Iterator[Watched]:
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    yield Watched(page)
    page.close()
