"""Forms, whole and broken, however the network cuts them."""

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import BadRequest, ServiceError, TooManyImages
from app.http.multipart import FormReader, read_form
from tests.fakes.bodies import BOUNDARY, FILE, cut, make_form, make_part

pytestmark = pytest.mark.anyio
NAMELESS = 'form-data; name="a"'
Files = list[tuple[bytes | ServiceError, str | None]]


async def read(chunks: bytes | Iterable[bytes], max_images: int = 3, boundary: bytes | None = b"xyz") -> Files:
    async def arrive() -> AsyncIterator[bytes]:
        for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
            yield chunk

    return await read_form(arrive(), boundary, max_images)


async def test_parts_keep_their_order_and_names() -> None:
    """Every file part is an image, in order, whatever its field is called."""
    body = make_form(
        make_part(b"1"),
        make_part(b"2", 'form-data; name="b"; filename="ü b.jpg"', "Content-Type: text/plain"),
        make_part(b"3", "form-data; name=b; filename*=utf-8''%C3%BC.jpg"),
    )
    assert await read(body) == [(b"1", "a.png"), (b"2", "ü b.jpg"), (b"3", "ü.jpg")]


@pytest.mark.parametrize("disposition", [NAMELESS, 'form-data; name="a"; filename=""', None])
@pytest.mark.parametrize("media_type", ["image/png", "application/octet-stream"])
async def test_a_type_makes_an_image_too(disposition: str | None, media_type: str) -> None:
    """A part of an image's type is an image without a name, even without a Content-Disposition."""
    assert await read(make_form(make_part(b"1", disposition, f"Content-Type: {media_type}"))) == [(b"1", None)]


async def test_other_parts_are_ignored() -> None:
    """A part with neither a filename nor an image's type is no image."""
    body = make_form(
        make_part(b"5", 'form-data; name="top_k"'), make_part(b"x", NAMELESS, "Content-Type: text/plain"),
        make_part(b"y", None), make_part(b"1"),
    )  # fmt: skip
    assert await read(body) == [(b"1", "a.png")]


async def test_an_empty_file_input_is_passed_over() -> None:
    """Browsers send a part without a name and without bytes where no file was chosen."""
    empty = make_part(b"", 'form-data; name="a"; filename=""', "Content-Type: application/octet-stream")
    assert await read(make_form(*[empty] * 4, make_part(b"1"), *[empty] * 4)) == [(b"1", "a.png")]
    assert await read(make_form(empty)) == []


async def test_a_file_without_bytes_fails_alone() -> None:
    """An image of zero bytes that has a name is an error in its own place."""
    (first, name), second = await read(make_form(make_part(b""), make_part(b"2")))
    assert isinstance(first, BadRequest)
    assert (first.detail, name, second) == ("The image has no bytes.", "a.png", (b"2", "a.png"))


async def test_a_transfer_encoding_fails_alone() -> None:
    """RFC 7578 has no base64 in forms, and what it would be decoded to is not what was sent."""
    body = make_form(
        make_part(b"MQ==", FILE, "Content-Transfer-Encoding: Base64"),
        make_part(b"2", FILE, "Content-Transfer-Encoding: Binary"),
    )
    (first, _), second = await read(body)
    assert isinstance(first, BadRequest)
    assert "'base64'" in first.detail
    assert second == (b"2", "a.png")


@pytest.mark.parametrize(
    "body",
    [
        b"preamble\r\n--xy\r\n" + make_form(make_part(b"1")),
        make_form(make_part(b"1")) + b"epilogue\r\n--xyz\r\nno header",
        make_form(make_part(b"1")).removesuffix(b"\r\n"),
        make_form(make_part(b"1")).replace(b"--xyz\r\n", b"--xyz \t \r\n"),
        make_form(make_part(b"1")).replace(b"form-data;", b"form-data;\r\n\t"),
        make_form(make_part(b"1")).replace(b"Content-Disposition: ", b"CONTENT-disposition:"),
        make_form(make_part(b"1", FILE, *[f"X-{n}: {n}" for n in range(15)])),
    ],
    ids=["preamble", "epilogue", "last line break", "padding", "folded", "case", "many headers"],
)
async def test_what_the_standard_allows_is_read(body: bytes) -> None:
    """RFC 2046 allows text around the parts, blanks behind a boundary and headers of several lines."""
    assert await read(body) == [(b"1", "a.png")]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"garbage", "before its closing boundary"),
        (b"", "before its closing boundary"),
        (make_form(make_part(b"1"))[:-4], "before its closing boundary"),
        (make_form(make_part(b"1")).replace(b"\r\n", b"\n"), "before its closing boundary"),
        (b"--xyz\r\nno header\r\n\r\n", "is no header"),
        (b"--xyz\r\nna me: x\r\n\r\n", "is no header"),
        (b"--xyz\r\n: x\r\n\r\n", "is no header"),
        (b"--xyz\r\nA: b\r\n--xyz--\r\n\r\n", "is no header"),
        (make_form(make_part(b"1", FILE, *["X: y"] * 16)), "16 headers"),
        (make_form(make_part(b"1", FILE, "X: " + "y" * 8192)), "8192 bytes"),
        (b"--xyz\r\nX: " + b"y" * 8192, "8192 bytes"),
    ],
)
async def test_an_unreadable_form_is_a_bad_request(body: bytes, words: str) -> None:
    """A form that is cut off, or has broken or endless headers, is refused as a whole."""
    with pytest.raises(BadRequest, match=words):
        await read(body)


@pytest.mark.parametrize(
    ("boundary", "words"),
    [
        (None, "no boundary"), (b"", "no boundary"), (b"b" * 71, "71 characters"), (b"b" * 300, "300 characters"),
        (b"a ", "ends with a space"), ("ü".encode("latin-1"), "ASCII"), (b"a\x00", "ASCII"), (b" ", "space"),
    ],
)  # fmt: skip
async def test_a_boundary_that_is_none_is_a_bad_request(boundary: bytes | None, words: str) -> None:
    """RFC 2046 allows 1 to 70 characters, and no space at the end."""
    with pytest.raises(BadRequest, match=words):
        await read(make_form(make_part(b"1")), boundary=boundary)


@pytest.mark.parametrize("boundary", [b"b" * 70, b"*****", b"a b", b"(?:[a]+", b"-", b"--"])
async def test_a_boundary_may_be_any_other(boundary: bytes) -> None:
    """Characters that mean something elsewhere mean nothing in a boundary."""
    body = make_form(make_part(b"\r\n--xy")).replace(BOUNDARY.encode() + b"\r", boundary + b"\r")
    assert await read(body.replace(b"--xyz--", b"--" + boundary + b"--"), boundary=boundary) == [(b"\r\n--xy", "a.png")]


async def test_what_begins_like_a_boundary_is_data() -> None:
    """Only a line that is the boundary, and nothing else, ends a part."""
    data = b"\r\n--xyz-\r\n--xyzz\r\n--xyz" + b" " * 65 + b"\r\n--xyz \n"
    assert await read(make_form(make_part(data))) == [(data, "a.png")]


async def test_images_are_counted_at_their_headers() -> None:
    """The image beyond the limit is refused before its data come."""
    reader = FormReader(b"xyz", 3)
    reader.feed(b"".join([make_part(b"1")] * 3))
    with pytest.raises(TooManyImages, match="3 images"):
        reader.feed(make_part(b""))
    with pytest.raises(TooManyImages):
        await read(make_form(*[make_part(b"1", None, "Content-Type: image/png")] * 4))


async def test_parts_of_any_kind_are_counted() -> None:
    """A form has at most four parts for each allowed image. The one beyond is refused before its headers are read."""
    field = make_part(b"5", NAMELESS)
    assert await read(make_form(*[field] * 11, make_part(b"1"))) == [(b"1", "a.png")]
    with pytest.raises(TooManyImages, match="12 parts"):
        await read(b"".join([field] * 12) + b"--xyz\r\nno header")


async def test_a_large_file_arrives_whole() -> None:
    """Data that are put aside in pieces are joined again."""
    data = bytes(range(256)) * 8_192
    for size in (1_000, 65_536, 3_000_000):
        body = make_form(make_part(data), make_part(b"2"))
        chunks = [body[start : start + size] for start in range(0, len(body), size)]
        assert await read(chunks) == [(data, "a.png"), (b"2", "a.png")]


LINES = [
    b"--xyz", b"--xyz--", b"--xyz ", b"--xyz-", b"--xy", b"", b"", b"x", b"\r", b"\n", b"-", b"--",
    b"Content-Disposition: form-data; name=a", b'Content-Disposition: form-data; name="a"; filename="a.png"',
    b"Content-Type: image/png", b" folded", b"no header", b"\x00\xff",
]  # fmt: skip


def split_form(body: bytes) -> Files | None:
    """An independent reader: it splits the whole body into lines. None where the form cannot be read."""
    lines = body.split(b"\r\n")
    starts = [n for n, line in enumerate(lines[:-1]) if re.fullmatch(rb"--xyz[ \t]{0,64}", line)]
    end = next((n for n, line in enumerate(lines) if line.startswith(b"--xyz--")), None)
    files: Files = []
    if end is None:
        return None
    bounds = [n for n in starts if n < end] + [end]
    for start, stop in itertools.pairwise(bounds):
        part = lines[start + 1 : stop]
        if b"" not in part:
            return None
        empty = part.index(b"")
        head = re.sub(rb"\r\n[ \t]+", b" ", b"\r\n".join(part[:empty]))
        if empty and not all(re.fullmatch(rb"[!-9;-~]+:[^:]*", line) for line in head.split(b"\r\n")):
            return None
        data = b"\r\n".join(part[empty + 1 :])
        name = "a.png" if b"filename" in head.split(b"\r\nContent-Disposition")[0] else None
        if name or (data and b"image/png" in head):
            files.append((data, name))
    return files


@settings(max_examples=500, deadline=None)
@given(
    lines=st.lists(st.sampled_from(LINES), max_size=24),
    ends=st.sampled_from([b"", b"\r\n"]),
    sizes=st.lists(st.integers(0, 40), max_size=12),
)
@example([b"--xyz", b"Content-Type: image/png", b"", b"--xyz--"], b"", [1] * 60)
def test_forms_are_read_as_an_independent_reader_reads_them(lines: list[bytes], ends: bytes, sizes: list[int]) -> None:
    """Whatever the lines of a body are and wherever it is cut, the images are those that a simple splitter finds."""
    body = b"\r\n".join(lines) + ends
    expected = split_form(body)
    try:
        files = asyncio.run(read(cut(body, sizes), max_images=30))
    except BadRequest:
        assert expected is None
    else:
        found = [(b"" if isinstance(data, BadRequest) else data, name) for data, name in files]
        assert found == expected


@pytest.mark.parametrize(
    "piece", [b"\r\n--xyz.", b"\r\n--xyz -", b"\r\n--xyz-", b"\r\n--xy", b"\r", b"\r\n--xyz" + b" " * 65 + b"\r"]
)
@pytest.mark.parametrize("size", [100, 65_536])
def test_near_boundaries_take_time_in_proportion(piece: bytes, size: int) -> None:
    """A part of 4 MiB that repeats what is nearly a boundary is read in a fraction of a second."""
    reader = FormReader(b"xyz", 1)
    started = time.process_time()
    reader.feed(make_part(b"")[:-2])
    for chunk in cut(piece * (4 * 2**20 // len(piece)), [size] * (4 * 2**20 // size)):
        reader.feed(chunk)
    assert time.process_time() - started < 1
