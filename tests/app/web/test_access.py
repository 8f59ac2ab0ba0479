"""The page for everybody: screen readers, keyboards, contrast, small screens; and the documentation's page."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.fakes.browser import KEY, Watch, add_to_document, count_of, drop, enter_key, make_images, open_page

AXE = "axe_playwright_python"  # the package that has axe-core's script
NAMED_ROLES = {
    "button",
    "combobox",
    "image",
    "link",
    "list",
    "slider",
    "textbox",
    "dialog",
    "region",
    "DisclosureTriangle",
}
Scheme = Literal["dark", "light"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")

# The contrast (WCAG 2.2) of each text with the nearest background that is not transparent.
CONTRASTS = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = {};
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!hasText || !element.checkVisibility() || element.matches(":disabled, option, noscript")) continue;
    const [a, b] = [parse(getComputedStyle(element).color), ground(element)].map(luminance);
    found[`${element.tagName} ${element.className} ${element.textContent}`] =
      (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }
  return found;
}"""


def show_everything(page: Page) -> None:
    """Opens the page with answers, a failure, and all controls."""
    add_to_document(page, "/explain", {})
    page.goto("/")
    enter_key(page)
    drop(page, [*make_images("a.png", "b.png"), ("broken.png", b"broken")])
    expect(count_of(page)).to_have_text("2 of 3 images answered, 1 failed.")
    expect(page.locator("#model-card")).to_contain_text("labels")
    page.locator("summary").first.click()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_texts_have_enough_contrast(page: Page, scheme: Scheme) -> None:
    """At least 4.5 to 1 (WCAG 2.2, 1.4.3), in light and dark."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    show_everything(page)
    contrasts: dict[str, float] = page.evaluate(CONTRASTS)
    assert len(contrasts) > 40
    assert {text: contrast for text, contrast in contrasts.items() if contrast < 4.5} == {}


def test_what_can_be_used_has_a_name(page: Page) -> None:
    """Every control, image, list and region has an accessible name; inputs have the one that is seen."""
    show_everything(page)
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    named = [(_value(node, "role"), _value(node, "name")) for node in nodes if not node["ignored"]]
    found = {role for role, _ in named}
    assert found >= {"button", "combobox", "image", "link", "list", "slider"}
    assert [role for role, name in named if role in NAMED_ROLES and not name] == []
    assert ("button", "Remove a.png") in named
    page.reload()
    dialog = page.get_by_role("dialog", name="API key")
    key = dialog.get_by_label("Key", exact=True)
    expect(key).to_be_focused()
    expect(key).to_have_accessible_description(re.compile("^The request needs an API key"))


def _value(node: dict[str, Any], field: str) -> str:
    return str(node.get(field, {}).get("value", ""))


@pytest.mark.skipif(find_spec(AXE) is None, reason=f"{AXE} is not installed")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_no_fault(page: Page, scheme: Scheme) -> None:
    """The rules of axe-core, in light and dark."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    show_everything(page)
    spec = find_spec(AXE)
    assert spec is not None
    assert spec.origin is not None
    page.evaluate((Path(spec.origin).parent / "axe.min.js").read_text("utf-8"))
    violations = page.evaluate("axe.run().then(found => found.violations.map(v => [v.id, v.nodes.map(n => n.html)]))")
    assert violations == []


def test_a_keyboard_is_enough(page: Page) -> None:
    """Tab reaches the controls in their order, each with a ring, and a slider moves by its arrows."""
    open_page(page)
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert reached == ["change-key", "API documentation", "choose", "coverage"]
    assert page.locator("#coverage").evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    page.keyboard.press("ArrowRight")
    expect(page.locator("#coverage-value")).to_have_text("91 %")
    page.keyboard.press("Shift+Tab")
    assert page.locator("label[for=choose]").evaluate("label => getComputedStyle(label).outlineStyle") == "solid"


def test_motion_can_be_reduced(page: Page) -> None:
    """Without motion nothing changes over time."""
    page.emulate_media(reduced_motion="reduce")
    show_everything(page)
    durations = page.locator(".fill, .result").evaluate_all(
        "all => all.map(e => getComputedStyle(e).transitionDuration)"
    )
    assert set(durations) == {"0s"}


def test_a_telephone_shows_all_of_it(browser: Browser, url: str) -> None:
    """At a width of 320 pixels nothing is cut off, and a photo can be taken."""
    with browser.new_context(base_url=url, viewport={"width": 320, "height": 640}, has_touch=True) as context:
        page = context.new_page()
        watch = Watch(page, url)
        show_everything(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        expect(page.get_by_text("Take a photo")).to_be_visible()
        expect(page.get_by_label("Take a photo")).to_have_attribute("capture", "environment")
        assert watch.faults == []


def test_the_documentation_needs_no_other_host(page: Page) -> None:
    """It shows the routes, and a request that is tried out is answered."""
    page.set_extra_http_headers({"X-API-Key": KEY})
    page.goto("/docs")
    page.locator("#operations-default-model_model_get").get_by_role("button").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
