"""The three forms of a body, read within the limits."""

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import BadRequest, BodyTooLarge, QueueFull, ServiceError, TooManyImages, UnsupportedEncoding
from app.http.uploads import read_uploads
from app.memory import BodyMemory, Reservation
from tests.fakes.bodies import FILE, FORM_TYPE, Body, make_form, make_part

pytestmark = pytest.mark.anyio
JSON = "application/json"


def reserve() -> Reservation:
    """A reservation without a limit that matters."""
    return BodyMemory(10**9, 10**9).reserve(None)


async def read(
    chunks: Iterable[bytes] | bytes, max_body_bytes: int = 10_000, max_images: int = 3, **headers: str
) -> list[tuple[bytes | ServiceError, str | None]]:
    """Each image's bytes or error, and its filename."""
    body = Body([chunks] if isinstance(chunks, bytes) else chunks, **headers)
    uploads = await read_uploads(body.request, max_body_bytes, max_images, reserve())
    return [(upload.data, upload.filename) for upload in uploads]


@pytest.mark.parametrize(
    "media_type",
    ["", "image/png", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain; charset=utf-8"],
)
async def test_any_other_body_is_one_image(media_type: str) -> None:
    """A body that is neither multipart nor JSON is the image, whatever its type says; curl says urlencoded."""
    assert await read([b"ab", b"cd"], content_type=media_type) == [(b"abcd", None)]


@pytest.mark.parametrize(
    "media_type", [FORM_TYPE, 'Multipart/Form-Data; charset=utf-8; Boundary="xyz"', "multipart/mixed;boundary=xyz"]
)
async def test_a_multipart_body_is_a_form(media_type: str) -> None:
    """Each file of a multipart body is an image."""
    body = make_form(make_part(b"1"), make_part(b"2", None, "Content-Type: image/png"))
    assert await read(body, content_type=media_type) == [(b"1", "a.png"), (b"2", None)]


@pytest.mark.parametrize("media_type", [JSON, "application/JSON; charset=utf-8", "application/vnd.api+json"])
async def test_a_json_body_has_instances(media_type: str) -> None:
    """Each instance of a JSON body is an image."""
    assert await read(b'{"instances": [{"b64": "MQ=="}]}', content_type=media_type) == [(b"1", None)]


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"", "image/png"),
        (b"", ""),
        (make_form(), FORM_TYPE),
        (make_form(make_part(b"5", "form-data; name=a")), FORM_TYPE),
        (make_form(make_part(b"", 'form-data; name=a; filename=""', "Content-Type: image/png")), FORM_TYPE),
        (b'{"instances": []}', JSON),
    ],
)
async def test_no_image_is_a_bad_request(body: bytes, media_type: str) -> None:
    """A request without a single image has nothing to answer."""
    with pytest.raises(BadRequest, match="no image"):
        await read(body, content_type=media_type)


async def test_a_declared_length_is_refused_unread() -> None:
    """A Content-Length above the limit is refused before a byte is read."""
    body = Body([b"x"], content_length="10001")
    with pytest.raises(BodyTooLarge, match="10001"):
        await read_uploads(body.request, 10_000, 3, reserve())
    assert body.taken == 0


@pytest.mark.parametrize("media_type", ["image/png", FORM_TYPE, JSON])
async def test_a_long_body_is_refused_while_it_arrives(media_type: str) -> None:
    """Without a declared length, reading stops as soon as the limit is passed."""
    body = Body([make_form(make_part(b"x" * 500))[:-9], *[b"x" * 1000] * 100], content_type=media_type)
    with pytest.raises(BodyTooLarge):
        await read_uploads(body.request, 2_000, 3, reserve())
    assert body.taken <= 4


async def test_the_limit_itself_is_allowed() -> None:
    """A body of exactly the limit is read."""
    assert await read(b"x" * 100, max_body_bytes=100) == [(b"x" * 100, None)]


async def test_images_are_counted_while_they_arrive() -> None:
    """The form part beyond the limit is refused at its header, the rest is not read."""
    body = Body([make_form(*[make_part(b"1")] * 3)[:-9], make_part(b"1"), *[b"x"] * 100], content_type=FORM_TYPE)
    with pytest.raises(TooManyImages):
        await read_uploads(body.request, 10_000, 3, reserve())
    assert body.taken <= 3


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
async def test_encodings_are_refused(encoding: str) -> None:
    """A compressed body is refused: it could hold anything."""
    with pytest.raises(UnsupportedEncoding):
        await read(b"x", content_encoding=encoding)


async def test_identity_is_no_encoding() -> None:
    """Content-Encoding: identity says nothing."""
    assert await read(b"x", content_encoding="Identity") == [(b"x", None)]


async def test_all_bodies_together_are_bounded() -> None:
    """What does not fit beside the bodies that are in memory already is refused while it arrives."""
    memory = BodyMemory(1_500, 1_500)
    first, second = Body([b"x" * 1_000]), Body([b"x" * 400, b"x" * 400, b"x" * 400])
    with memory.reserve(None) as held:
        await read_uploads(first.request, 10_000, 3, held)
        with memory.reserve(None) as reservation, pytest.raises(QueueFull):
            await read_uploads(second.request, 10_000, 3, reservation)
        assert (second.taken, memory.used_bytes) == (2, 1_000)
    assert memory.used_bytes == 0


@pytest.mark.parametrize(
    ("body", "media_type", "sizes"),
    [
        (b"x" * 100, "image/png", [100]),
        (make_form(make_part(b"x" * 10), make_part(b"y" * 20), make_part(b"")), FORM_TYPE, [10, 20, 0]),
        (json.dumps({"instances": [{"b64": "MTIz"}, {"b64": "?"}]}).encode(), JSON, [3, 0]),
    ],
)
async def test_each_image_has_its_share(body: bytes, media_type: str, sizes: list[int]) -> None:
    """Once a body is read, what stays counted are its images; the rest of it is freed."""
    memory = BodyMemory(10**6, 10**6)
    with memory.reserve(None) as reservation:
        uploads = await read_uploads(Body([body], content_type=media_type).request, 10_000, 3, reservation)
        assert [upload.share.size for upload in uploads] == sizes
        assert memory.used_bytes == sum(sizes)


PIECES = [
    b"--xyz", b"--", b"\r\n", b"\n", b"\r", b"x", b":", b";", b"=", b'"', b"Content-Disposition: form-data; name=a",
    b"Content-Disposition: " + FILE.encode(), b"Content-Type: image/png", b"\x00\xff", b" ", b"{", b"}", b"[", b"]",
    b'"instances":', b'{"b64":"MQ=="}', b",", b"\\",
]  # fmt: skip
TYPES = [FORM_TYPE, "multipart/mixed; boundary=xyz", JSON, "image/png", "a/b;;=;", "multipart/x; boundary=" + "b" * 300]


@settings(max_examples=500, deadline=None)
@given(
    chunks=st.lists(st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=8).map(b"".join), min_size=1),
    media_type=st.sampled_from(TYPES) | st.text(st.characters(max_codepoint=255), max_size=20),
)
def test_any_body_gives_images_or_an_error_of_ours(chunks: list[bytes], media_type: str) -> None:
    """No body lets an error of a parser through, and whatever is read is within the limits."""
    with suppress(BadRequest, BodyTooLarge, TooManyImages):
        files = asyncio.run(read(chunks, max_body_bytes=200, max_images=2, content_type=media_type))
        assert 1 <= len(files) <= 2
