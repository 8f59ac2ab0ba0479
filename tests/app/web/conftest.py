"""A server, and a browser that watches its pages for faults."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.fakes.browser import KEY, MAX_BODY_BYTES, Watch
from tests.fakes.calibrations import calibrated, drawn
from tests.fakes.checkpoints import LABELS, write_small_checkpoint
from tests.fakes.servers import listening

PATIENCE_MS = 20_000  # for a machine that does other work


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a calibrated model, which wants the key `KEY`."""
    path = tmp_path_factory.mktemp("checkpoints") / "calibrated.safetensors"
    write_small_checkpoint(path, calibration=calibrated(*drawn(500, 0, len(LABELS)), "lac"))
    with listening(path, api_keys=KEY, max_body_bytes=MAX_BODY_BYTES) as url:
        yield url


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A new page with nothing stored. No script may fail on it, and no request may go to another host."""
    context = browser.new_context(base_url=url)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    watch = Watch(page, url)
    yield page
    context.close()
    assert watch.faults == []
