"""The three forms of a body, read within the limits."""

import asyncio
import base64
import json
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from app.errors import BadRequest, BodyTooLarge, QueueFull, TooManyImages, UnsupportedEncoding
from app.http.uploads import Upload, read_uploads
from app.memory import BodyMemory

pytestmark = pytest.mark.anyio
BOUNDARY = "xyz"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


class Body:
    """A request whose body arrives in the given chunks, and which knows how many were asked for."""

    def __init__(self, chunks: Iterable[bytes], **headers: str) -> None:
        self.chunks = list(chunks)
        self.taken = 0
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.request = Request({"type": "http", "method": "POST", "headers": raw}, self._receive)

    async def _receive(self) -> Message:
        chunk = self.chunks[self.taken]
        self.taken += 1
        return {"type": "http.request", "body": chunk, "more_body": self.taken < len(self.chunks)}


async def read(
    chunks: Iterable[bytes] | bytes, max_body_bytes: int = 10_000, max_images: int = 3, **headers: str
) -> list[Upload]:
    body = Body([chunks] if isinstance(chunks, bytes) else chunks, **headers)
    return await read_uploads(body.request, max_body_bytes, max_images, BodyMemory(10**9).reserve())


def part(
    data: bytes, disposition: str = 'form-data; name="a"; filename="a.png"', media_type: str | None = None
) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n"
    head += f"Content-Type: {media_type}\r\n" if media_type else ""
    return head.encode() + b"\r\n" + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


@pytest.mark.parametrize(
    "media_type",
    ["", "image/png", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain; charset=utf-8"],
)
async def test_any_other_body_is_one_image(media_type: str) -> None:
    """A body that is neither multipart nor JSON is the image, whatever its type says; curl says urlencoded."""
    assert await read([b"ab", b"cd"], content_type=media_type) == [Upload(b"abcd")]


async def test_form_parts_keep_their_order_and_names() -> None:
    """Every file part is an image, in order, whatever its field is called."""
    body = form(
        part(b"1"), part(b"2", 'form-data; name="b"; filename="ü b.jpg"'), part(b"", 'form-data; name="c"', "image/png")
    )
    uploads = await read(body, content_type=MULTIPART)
    assert uploads == [Upload(b"1", "a.png"), Upload(b"2", "ü b.jpg"), Upload(b"", None)]


async def test_other_form_parts_are_ignored() -> None:
    """A part with neither a filename nor an image's type is no image."""
    body = form(part(b"5", 'form-data; name="top_k"'), part(b"note", 'form-data; name="n"', "text/plain"), part(b"1"))
    assert await read(body, content_type=MULTIPART) == [Upload(b"1", "a.png")]


async def test_a_form_may_arrive_byte_by_byte() -> None:
    """Where the network cuts a multipart body changes nothing."""
    body = form(part(b"\r\n--xy\r\n--xyz-\r\n"), part(b"2"))
    uploads = await read([body[i : i + 1] for i in range(len(body))], content_type=MULTIPART)
    assert [upload.data for upload in uploads] == [b"\r\n--xy\r\n--xyz-\r\n", b"2"]


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"garbage", MULTIPART),
        (form(part(b"1"))[:-6], MULTIPART),
        (form(part(b"1")), "multipart/form-data"),
        (form(part(b"1")), "multipart/form-data; boundary=other"),
        (b"--xyz\r\nno header\r\n\r\n", MULTIPART),
    ],
)
async def test_an_unreadable_form_is_a_bad_request(body: bytes, media_type: str) -> None:
    """A multipart body without boundary, or cut off, or with broken headers, is refused as a whole."""
    with pytest.raises(BadRequest):
        await read(body, content_type=media_type)


async def test_json_instances_are_decoded() -> None:
    """Each instance's b64 is an image; line breaks in it are allowed."""
    long = bytes(range(256))
    text = json.dumps(
        {"instances": [{"b64": base64.b64encode(b"1").decode()}, {"b64": base64.encodebytes(long).decode()}]}
    )
    assert await read(text.encode(), content_type="application/json") == [Upload(b"1"), Upload(long)]


@pytest.mark.parametrize("instance", [{"b64": "a!b"}, {"b64": "abc"}, {"b64": 5}, {}, "b64", None])
async def test_bad_base64_fails_alone(instance: object) -> None:
    """An instance that cannot be read is an error in its own place."""
    text = json.dumps({"instances": [instance, {"b64": "MQ=="}]})
    bad, good = await read(text.encode(), content_type="application/json; charset=utf-8")
    assert isinstance(bad.data, BadRequest)
    assert good == Upload(b"1")


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"instances": {}}', '{"images": []}', '{"instances": "a"}'])
async def test_unreadable_json_is_a_bad_request(text: str) -> None:
    """JSON that is broken or not of the form is refused as a whole."""
    with pytest.raises(BadRequest):
        await read(text.encode(), content_type="application/json")


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"", "image/png"),
        (form(), MULTIPART),
        (form(part(b"5", "form-data; name=a")), MULTIPART),
        (b'{"instances": []}', "application/json"),
    ],
)
async def test_no_image_is_a_bad_request(body: bytes, media_type: str) -> None:
    """A request without a single image has nothing to answer."""
    with pytest.raises(BadRequest):
        await read(body, content_type=media_type)


async def test_a_declared_length_is_refused_unread() -> None:
    """A Content-Length above the limit is refused before a byte is read."""
    body = Body([b"x"], content_length="10001")
    with pytest.raises(BodyTooLarge, match="10001"):
        await read_uploads(body.request, 10_000, 3, BodyMemory(10**9).reserve())
    assert body.taken == 0


@pytest.mark.parametrize("media_type", ["image/png", MULTIPART, "application/json"])
async def test_a_long_body_is_refused_while_it_arrives(media_type: str) -> None:
    """Without a declared length, reading stops as soon as the limit is passed."""
    body = Body([form(part(b"x" * 500))[:-9], *[b"x" * 1000] * 100], content_type=media_type)
    with pytest.raises(BodyTooLarge):
        await read_uploads(body.request, 2_000, 3, BodyMemory(10**9).reserve())
    assert body.taken <= 4


async def test_the_limit_itself_is_allowed() -> None:
    """A body of exactly the limit is read."""
    assert await read(b"x" * 100, max_body_bytes=100) == [Upload(b"x" * 100)]


async def test_images_are_counted_while_they_arrive() -> None:
    """The form part beyond the limit is refused at its header, the rest is not read."""
    body = Body([form(*[part(b"1")] * 3)[:-9], part(b"1"), *[b"x"] * 100], content_type=MULTIPART)
    with pytest.raises(TooManyImages):
        await read_uploads(body.request, 10_000, 3, BodyMemory(10**9).reserve())
    assert body.taken <= 3


async def test_json_instances_are_counted() -> None:
    """More instances than allowed are refused as a whole."""
    text = json.dumps({"instances": [{"b64": "MQ=="}] * 4})
    with pytest.raises(TooManyImages):
        await read(text.encode(), content_type="application/json")


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
async def test_encodings_are_refused(encoding: str) -> None:
    """A compressed body is refused: it could hold anything."""
    with pytest.raises(UnsupportedEncoding):
        await read(b"x", content_encoding=encoding)


async def test_identity_is_no_encoding() -> None:
    """Content-Encoding: identity says nothing."""
    assert await read(b"x", content_encoding="Identity") == [Upload(b"x")]


async def test_all_bodies_together_are_bounded() -> None:
    """What does not fit beside the bodies that are in memory already is refused while it arrives."""
    memory = BodyMemory(1_500)
    first, second = Body([b"x" * 1_000]), Body([b"x" * 400, b"x" * 400, b"x" * 400])
    with memory.reserve() as held:
        await read_uploads(first.request, 10_000, 3, held)
        with memory.reserve() as reservation, pytest.raises(QueueFull):
            await read_uploads(second.request, 10_000, 3, reservation)
        assert (second.taken, memory.used_bytes) == (2, 1_000)
    assert memory.used_bytes == 0


PIECES = [
    b"--xyz", b"--", b"\r\n", b"\n", b"\r", b"x", b":", b";", b"=", b'"', b"Content-Disposition: form-data; name=a",
    b'Content-Disposition: form-data; name="a"; filename="a.png"', b"Content-Type: image/png", b"\x00\xff", b" ",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    chunks=st.lists(st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join), min_size=1, max_size=8),
    media_type=st.sampled_from(
        [MULTIPART, "multipart/mixed; boundary=xyz", "application/json", "image/png", "a/b;;=;"]
    ),
)
def test_any_body_gives_images_or_an_error_of_ours(chunks: list[bytes], media_type: str) -> None:
    """No body lets an error of a parser through, and whatever is read is within the limits."""
    with suppress(BadRequest, BodyTooLarge, TooManyImages):
        uploads = asyncio.run(read(chunks, max_body_bytes=200, max_images=2, content_type=media_type))
        assert 1 <= len(uploads) <= 2


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("MQ==")
NAMES = st.sampled_from(["instances", "b64", "x"])
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner), max_leaves=8
)


@settings(max_examples=200, deadline=None)
@given(document=DOCUMENTS)
def test_any_json_gives_images_or_an_error_of_ours(document: object) -> None:
    """No JSON document lets anything but a bad request or its images through."""
    text = json.dumps(document).encode()
    with suppress(BadRequest, TooManyImages):
        uploads = asyncio.run(read(text, max_images=2, content_type="application/json"))
        assert all(isinstance(upload.data, bytes | BadRequest) for upload in uploads)
