"""What a person does on the page, and what it shows."""

import re
import threading

from playwright.sync_api import Page, Route, expect

from tests.fakes.browser import (
    KEY,
    MAX_BODY_BYTES,
    add_to_answer,
    add_to_document,
    answer_problem,
    count_of,
    drop,
    enter_key,
    make_images,
    make_rotated,
    open_page,
)
from tests.fakes.checkpoints import LABELS
from tests.fakes.images import encoded, random_image

PREDICT = "**/predict*"
DECIDES = {"parameters": [{"name": "max_error", "in": "query"}]}


def test_dropped_images_are_answered_and_a_broken_one_fails_alone(page: Page) -> None:
    """Each has its labels, set, typicality and times, and the broken one the server's reason."""
    open_page(page)
    [first, last] = make_images("first.png", "last.png")
    drop(page, [first, ("broken.png", first[1][:-60]), last])
    expect(count_of(page)).to_have_text("2 of 3 images answered, 1 failed.")
    expect(page.get_by_role("status").filter(has_text="1 failed")).to_have_count(1)
    items = page.locator(".item")
    expect(items.get_by_role("heading")).to_have_text(["first.png", "broken.png", "last.png"])
    expect(items.nth(1).locator(".state")).to_contain_text("truncated or corrupt")
    for item in (items.first, items.last):
        expect(item.locator(".bars li")).to_have_count(len(LABELS))
        expect(item.locator(".set")).to_contain_text("Prediction set at 90 %")
        expect(item.locator(".badges")).to_have_text(re.compile(r"\(typicality 0\.\d+\)"))
        expect(item.locator(".timing")).to_have_text(
            re.compile(r"^Time: .* ms decoding, .* ms in the queue, .* ms in the model, .* ms in total$")
        )
    widths = page.locator(".bars").first.locator(".fill").evaluate_all("fills => fills.map(fill => fill.style.width)")
    shares = [float(width.removesuffix("%")) for width in widths]
    assert shares == sorted(shares, reverse=True)


def test_the_slider_moves_the_prediction_set(page: Page) -> None:
    """A larger coverage gives a set with more labels, for every image that is seen."""
    open_page(page)
    drop(page, make_images("a.png", "b.png"))
    expect(page.locator(".set")).to_have_count(2)
    slider = page.get_by_role("slider", name="Coverage of the prediction set")
    slider.press("Home")
    expect(page.locator(".set").filter(has_text="at 50 %")).to_have_count(2)
    small = page.locator(".set").first.inner_text()
    slider.press("End")
    expect(page.locator(".set").filter(has_text="at 99 %")).to_have_count(2)
    large = page.locator(".set").first.inner_text()
    assert small.count(",") < large.count(",")
    expect(slider).to_have_attribute("aria-valuetext", "99 %")


def test_a_wrong_key_is_asked_for_again(page: Page) -> None:
    """The server's reason is shown, the right key is sent as a bearer token, and it is stored nowhere."""
    page.goto("/")
    expect(page.locator("#key-error")).to_contain_text("needs an API key")
    enter_key(page, "wrong")
    expect(page.locator("#key-error")).to_have_text("The API key is not known.")
    with page.expect_request(lambda request: request.headers.get("authorization") == f"Bearer {KEY}"):
        enter_key(page)
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#model-card")).to_contain_text("4 labels")
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert page.locator("#key").input_value() == ""
    page.reload()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_who_has_no_key_is_asked_once(page: Page) -> None:
    """After Cancel the images fail with the server's reason; with a key they are asked for again."""
    page.goto("/")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#model-card")).to_contain_text("needs an API key")
    drop(page, make_images(*(f"{i}.png" for i in range(6))))
    page.get_by_role("button", name="Cancel").click()
    expect(count_of(page)).to_have_text("0 of 6 images answered, 6 failed.")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="API key").click()
    enter_key(page, "spaced key")
    expect(page.locator("#key-error")).to_contain_text("visible ASCII")
    enter_key(page)
    expect(count_of(page)).to_have_text("6 of 6 images answered.")
    expect(page.locator("#model-name")).to_contain_text("vgg11_bn")


def test_a_busy_server_is_asked_again(page: Page) -> None:
    """After 429 the page shows the reason and the seconds of Retry-After, and asks again when they are over."""
    page.clock.install()
    open_page(page)
    page.route(PREDICT, lambda route: answer_problem(route, 429, "queue_full", "Full.", retry_after="7"), times=1)
    drop(page, make_images("a.png"))
    status = page.locator(".state")
    expect(status).to_have_text("Full. Trying again in 7 s.")
    page.clock.run_for(4000)
    expect(status).to_have_text("Full. Trying again in 3 s.")
    page.clock.run_for(3000)
    expect(count_of(page)).to_have_text("1 of 1 image answered.")


def test_a_lost_network_is_told(page: Page) -> None:
    """The notice and the image say so, and both are gone once the server is reached again."""
    open_page(page)
    page.route(PREDICT, lambda route: route.abort())
    drop(page, make_images("a.png"))
    notice = page.locator("#connection")
    expect(notice.get_by_role("alert")).to_have_text("The server cannot be reached. Check the network.")
    expect(page.locator(".item .error")).to_have_text("The server cannot be reached.")
    page.unroute(PREDICT)
    notice.get_by_role("button", name="Try again").click()
    expect(count_of(page)).to_have_text("1 of 1 image answered.")
    expect(notice).to_be_hidden()


def test_files_that_cannot_be_sent_are_not(page: Page) -> None:
    """A file above the server's limit fails with its size and the limit."""
    open_page(page)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    drop(page, [("large.png", b"\0" * (MAX_BODY_BYTES + 2**20))])
    expect(page.locator(".item .error")).to_have_text("The file has 2 MiB, and the server takes at most 1 MiB.")
    assert not [url for url in sent if "predict" in url]


def test_decisions_are_shown_where_the_server_makes_them(page: Page) -> None:
    """Accepted or deferred, at the error that was chosen; a server that refuses is asked without it."""
    add_to_document(page, "/predict", DECIDES)
    page.route("**/model", _promise_decisions)
    open_page(page)
    page.route("**/predict?*max_error=0.05*", lambda route: add_to_answer(route, decision=_decision(0.05, True)))
    page.route("**/predict?*max_error=0.01*", lambda route: add_to_answer(route, decision=_decision(0.01, False)))
    drop(page, make_images("a.png"))
    choice = page.get_by_label("Accept answers with an error of at most")
    expect(choice).to_have_accessible_description(re.compile("with a confidence of 95 %"))
    choice.select_option("5 %")
    expect(page.locator(".badges .good")).to_have_text("Accepted at an error of at most 5 %")
    choice.select_option("1 %")
    expect(page.locator(".badges .doubtful")).to_have_text("Deferred: too uncertain for an error of at most 1 %")
    reason = "max_error is '0.2', but there is no calibration."
    page.route("**/predict?*max_error=0.2*", lambda route: answer_problem(route, 422, "invalid_parameter", reason))
    choice.select_option("20 %")
    expect(choice).to_be_disabled()
    expect(choice).to_have_accessible_description(reason)
    expect(count_of(page)).to_have_text("1 of 1 image answered.")


def _promise_decisions(route: Route) -> None:
    response = route.fetch()
    document = response.json()
    if response.ok:
        document["calibration"]["decisions"] = {"confidence": 0.95, "accepted": []}
    route.fulfill(response=response, json=document)


def _decision(max_error: float, accepted: bool) -> dict[str, object]:
    return {"max_error": max_error, "accepted": accepted}


def test_heat_maps_are_shown_where_the_server_makes_them(page: Page) -> None:
    """The map of the top label lies over the image, as opaque as its slider says."""
    add_to_document(page, "/explain", {})
    heat = encoded(random_image(9))
    page.route("**/explain?*", lambda route: route.fulfill(body=heat, content_type="image/png"))
    open_page(page)
    drop(page, make_images("a.png"))
    button = page.get_by_role("button", name="Heat map of a.png")
    with page.expect_request("**/explain?*") as asked:
        button.click()
    label = page.locator(".answer strong").inner_text()
    assert asked.value.url.endswith(f"?label={label}")
    layer = page.locator(".heat")
    expect(layer).to_be_visible()
    expect(button).to_have_attribute("aria-pressed", "true")
    page.get_by_role("slider", name="Opacity of the heat map of a.png").press("Home")
    expect(layer).to_have_css("opacity", "0")
    button.click()
    expect(layer).to_be_hidden()


def test_heat_maps_are_not_offered_where_there_are_none(page: Page) -> None:
    """Neither where the document has no such route, nor after the route has answered 404."""

    def hide(route: Route) -> None:
        document = route.fetch().json()
        document["paths"].pop("/explain", None)
        route.fulfill(json=document)

    page.route("**/openapi.json", hide)
    open_page(page)
    drop(page, make_images("a.png"))
    button = page.get_by_role("button", name="Heat map of a.png")
    expect(count_of(page)).to_have_text("1 of 1 image answered.")
    expect(button).to_be_hidden()
    add_to_document(page, "/explain", {})
    page.route("**/explain?*", lambda route: answer_problem(route, 404, "not_found", "There is none."))
    open_page(page)
    drop(page, make_images("a.png"))
    button.click()
    expect(button).to_be_hidden()


def test_many_images_take_turns(page: Page) -> None:
    """Four requests are on their way at once, whatever the number of images, and every picture's URL is given back."""
    held: list[Route] = []
    released = threading.Event()
    page.add_init_script(
        """window.urls = new Set();
        const {createObjectURL, revokeObjectURL} = URL;
        URL.createObjectURL = (blob) => { const url = createObjectURL(blob); urls.add(url); return url; };
        URL.revokeObjectURL = (url) => { urls.delete(url); revokeObjectURL(url); };"""
    )
    open_page(page)
    page.route(PREDICT, lambda route: route.continue_() if released.is_set() else held.append(route))
    drop(page, make_images(*(f"{i}.png" for i in range(40))))
    expect(page.locator(".state").filter(has_text="On its way.")).to_have_count(4)
    expect(page.locator(".state").filter(has_text="Waiting.")).to_have_count(36)
    assert len(held) == 4
    released.set()
    for route in held:
        route.continue_()
    expect(count_of(page)).to_have_text("40 of 40 images answered.")
    page.wait_for_function("urls.size === 0")
    page.get_by_role("button", name="Remove all").click()
    expect(page.locator(".item")).to_have_count(0)
    expect(page.get_by_label("Choose images")).to_be_focused()


def test_a_picture_is_upright(page: Page) -> None:
    """Its orientation is applied, as the server does; a file that no browser shows has a word instead."""
    open_page(page)
    drop(page, [("rotated.jpg", make_rotated())], "image/jpeg")
    page.wait_for_function("document.querySelector('.frame img').naturalWidth === 80")
    expect(page.locator(".frame img").first).to_have_css("image-orientation", "from-image")
    drop(page, [("a.tif", encoded(random_image(), "TIFF"))], "image/tiff")
    expect(page.locator(".no-preview").last).to_be_visible()
    expect(count_of(page)).to_have_text("2 of 2 images answered.")
