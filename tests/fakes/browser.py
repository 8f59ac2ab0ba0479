"""What tests of the page do in a browser."""

import base64
import io
import json
import re
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import ConsoleMessage, Page, Request, Route, expect

from tests.fakes.images import encoded, random_image

KEY = "right-key"
MAX_BODY_BYTES = 2**20
STATUS_NOTE = "Failed to load resource"  # how the browser notes every answer of 400 or above

DROP = """files => {
  const transfer = new DataTransfer();
  for (const [name, type, data] of files)
    transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name, {type}));
  document.getElementById("drop").dispatchEvent(
    new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""


class Watch:
    """Collects what must not happen on a page: errors, and requests to others than `url`."""

    def __init__(self, page: Page, url: str) -> None:
        self.faults: list[str] = []
        self._allowed = (f"{url}/", f"blob:{url}/", "data:")
        page.on("console", self._read)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", self._check)

    def _read(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(STATUS_NOTE):
            self.faults.append(message.text)

    def _check(self, request: Request) -> None:
        if not request.url.startswith(self._allowed):
            self.faults.append(request.url)


def make_images(*names: str) -> list[tuple[str, bytes]]:
    """An image file for each name."""
    return [(name, encoded(random_image(seed))) for seed, name in enumerate(names)]


def make_rotated() -> bytes:
    """A JPEG of 40 x 80 pixels as stored, which its orientation (6) turns to 80 x 40."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((80, 40, 3), np.uint8)).save(file, "JPEG", exif=exif)
    return file.getvalue()


def drop(page: Page, files: list[tuple[str, bytes]], media_type: str = "image/png") -> None:
    """Drops files on the page, as a file manager does."""
    page.evaluate(DROP, [(name, media_type, base64.b64encode(data).decode()) for name, data in files])


def enter_key(page: Page, key: str = KEY) -> None:
    """Answers the question for the key."""
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use this key").click()


def open_page(page: Page) -> None:
    """Opens the page, with the right key, and waits for the model's card."""
    page.goto("/")
    enter_key(page)
    expect(page.locator("#model-name")).to_contain_text("vgg11_bn")


def count_of(page: Page) -> Any:
    """The line that tells how many images are answered."""
    return page.locator("#count")


def answer_problem(route: Route, status: int, code: str, detail: str, **headers: str) -> None:
    """Answers with a problem document."""
    body = json.dumps({"title": "", "status": status, "code": code, "detail": detail, "request_id": "a"})
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    route.fulfill(status=status, body=body, headers=headers, content_type="application/problem+json")


def add_to_answer(route: Route, **fields: Any) -> None:
    """Answers as the server does without `max_error`, with more fields in the one prediction."""
    response = route.fetch(url=re.sub(r"max_error=[^&]*&?", "", route.request.url))
    document = response.json()
    document["predictions"][0].update(fields)
    route.fulfill(response=response, json=document)


def add_to_document(page: Page, path: str, operation: dict[str, Any]) -> None:
    """From now on the OpenAPI document has this operation at `path`."""

    def answer(route: Route) -> None:
        response = route.fetch()
        document = response.json()
        document["paths"][path] = {"post": operation}
        route.fulfill(response=response, json=document)

    page.route("**/openapi.json", answer)
