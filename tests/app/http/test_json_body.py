"""JSON bodies: instances, strings, limits."""

import asyncio
import base64
import json
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import BadRequest, ServiceError, TooManyImages
from app.http.json_body import read_instances

pytestmark = pytest.mark.anyio
MAX_IMAGES = 3
MEBIBYTE = 2**20


async def details(body: bytes | str) -> list[bytes | str]:
    """Each instance's image, or the detail of its error."""
    images = await read_instances(body.encode() if isinstance(body, str) else body, MAX_IMAGES)
    return [image.detail if isinstance(image, ServiceError) else image for image in images]


def in_body(b64: str) -> str:
    """A body with one instance; `b64` is written as it stands."""
    return f'{{"instances": [{{"b64": "{b64}"}}]}}'


async def test_instances_are_decoded() -> None:
    """Each instance's b64 is an image; line breaks in it are allowed."""
    long = bytes(range(256))
    texts = [base64.b64encode(b"1").decode(), base64.encodebytes(long).decode(), "data:image/png;base64,MTIz"]
    assert await details(json.dumps({"instances": [{"b64": text} for text in texts]})) == [b"1", long, b"123"]


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"instances":[{"b64":"Pz8/"}]}',
        b' {"x": {"instances": 1}, "instances" : [ {"y": ["b64"], "b64": "Pz8/", "z": "\\"]},{"} ], "a": "b\\\\"} ',
        rb'{"inst\u0061nces": [{"\u0062\u0036\u0034": "Pz8\/"}]}',
        rb'{"instances": [{"b64": "\u0050z8\u002f"}]}',
        rb'{"instances": [{"b64": "\r\nPz\n8/\u000a"}]}',
        b'{"a": "\xff\xfe", "instances": [{"b64": "Pz8/"}]}',
    ],
    ids=["byte-order mark", "other members", "escaped keys", "escapes", "line breaks", "no UTF-8 in what is ignored"],
)
async def test_json_may_be_written_in_many_ways(body: bytes) -> None:
    """Escapes, other members and a byte-order mark change nothing."""
    assert await details(body) == [b"???"]


@pytest.mark.parametrize(
    ("instance", "words"),
    [
        ('{"b64": "a!b="}', "has '!' at position 1"),
        ('{"b64": "Pz8+ Pz8"}', "has ' ' at position 4"),
        ('{"b64": "a_b="}', "has '_' at position 1"),
        ('{"b64": "abc"}', 'lacks the "="'),
        ('{"b64": "data:image/png,MQ=="}', "URI"),
        ('{"b64": ""}', "no bytes"),
        ('{"b64": 5}', "is a number"),
        ('{"b64": 1e9}', "is a number"),
        ('{"b64": ["MQ=="]}', "is a list"),
        ('{"b64": {}}', "is an object"),
        ('{"b64": true}', "is a boolean"),
        ('{"b64": null}', "is null"),
        ("{}", "is null"),
        ('{"B64": "MQ=="}', "is null"),
        ('"b64"', "is a string"),
        ("null", "is null"),
        ("[]", "is a list"),
        ('{"b64": "MQ==", "b64": "MQ=="}', "2 times"),
        (r'{"b64": "MQ==", "b\u00364": "MQ=="}', "2 times"),
    ],
)
async def test_a_bad_instance_fails_alone(instance: str, words: str) -> None:
    """An instance that cannot be read is an error in its own place, which says what is wrong."""
    bad, good = await details(f'{{"instances": [{instance}, {{"b64": "MQ=="}}]}}')
    assert words in str(bad)
    assert good == b"1"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", 'list "instances"'),
        ("5", 'list "instances"'),
        ('"instances"', 'list "instances"'),
        ('{"instances": {}}', 'list "instances"'),
        ('{"instances": "a"}', 'list "instances"'),
        ('{"images": []}', 'list "instances"'),
        ('{"instances": [], "instances": []}', '"instances" 2 times'),
        ('{"instances": [NaN]}', "at byte 15"),
        ('{"instances": [{"b64": Infinity}]}', "at byte 23"),
        ('{"instances": [{"b64": "MQ=="},]}', "at byte 30"),
        ("\ufeff{'instances': []}", "at byte 4"),
        ('{"instances": [{"b64": "MQ==}]}', "string that begins at byte 23 has no end"),
        ('{"instances": [{"b64": "\\', "string that begins at byte 23 has no end"),
        ('{"instances": [{"b64": "\\x"}]}', "in the string at byte 24"),
        ('{"instances": [{"b64": "\x01"}]}', "in the string at byte 24"),
        ('{"instance\\x": []}', "in the key at byte 2"),
        ('{"instances": []} {}', "not valid JSON"),
        ("[" * 2_000 + "]" * 2_000, "not valid JSON"),
        (b'{"instances": [{"b64": "\xff"}]}', "in the string at byte 24"),
        ("{}".encode("utf-16"), "not valid JSON"),
    ],
)
async def test_unreadable_json_is_a_bad_request(body: str | bytes, words: str) -> None:
    """JSON that is broken or not of the form is refused as a whole, with the place where it is broken."""
    with pytest.raises(BadRequest, match=words):
        await details(body)


async def test_no_instance_is_no_image() -> None:
    """An empty list has no image."""
    assert await details('{"instances": []}') == []


@pytest.mark.parametrize(
    "body",
    [
        '{"instances": [' + ",".join(['{"b64": "MQ=="}'] * 4) + "]}",
        '{"instances": [' + "{}," * (MEBIBYTE // 3) + "{}]}",
        '{"instances": [' + "[]," * (MEBIBYTE // 3),
        '{"instances": [' + "1," * (MEBIBYTE // 2) + "1]}",
        '{"instances": [' + '{"b64": ""},' * (MEBIBYTE // 12),
        '{"instances": [' + '"",' * (MEBIBYTE // 3),
        '{"a": "[", "b": [{"c": [1]}], "instances": [' + "{}," * (MEBIBYTE // 3),
    ],
)
async def test_instances_are_counted_before_they_are_made(body: str) -> None:
    """More instances than allowed are refused as a whole, whatever they are and whatever follows them."""
    tracemalloc.start()
    try:
        with pytest.raises(TooManyImages, match="3 images"):
            await details(body)
        assert tracemalloc.get_traced_memory()[1] < len(body) + MEBIBYTE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [
        '{"x": "' + "\\" * MEBIBYTE + '"}',
        "[" * MEBIBYTE,
        '{"instances":' * (MEBIBYTE // 13),
        '{"instances": [' + " " * MEBIBYTE + "]}",
        '{"instances": [{"x": [' + "1," * (MEBIBYTE // 2) + "1]}]}",
        '{"instances": [{"x": "' + '\\"' * (MEBIBYTE // 2) + '"}]}',
        '{"x": {' + '"":1,' * (MEBIBYTE // 5),
        '"' * MEBIBYTE,
    ],
    ids=["backslashes", "nested lists", "nested objects", "blanks", "a list", "escaped quotes", "keys", "quotes"],
)
async def test_what_is_outside_of_strings_is_bounded(body: str) -> None:
    """A body that is much else than strings is refused without being parsed."""
    with pytest.raises(BadRequest, match=r"more than the allowed (5632 bytes|4096 escaped)|4096 backslashes or more"):
        await details(body)


@pytest.mark.parametrize("text", ["[{},{},{},{}],{:", r"\"},{\"b64\":\"", "{},{},{},{},{}," * 1_000, r"\\"])
async def test_strings_hide_nothing(text: str) -> None:
    """Brackets and quotes within a string are text: they are neither counted nor taken for structure."""
    assert await details(f'{{"{text}": "{text}", "instances": [{{"x": "{text}", "b64": "MQ=="}}]}}') == [b"1"]


@pytest.mark.parametrize("unit", ["/", "\\/", "\\u002f", "\\u002F\\/", "A\\n\\/\\r"])
@pytest.mark.parametrize("shift", range(7))
async def test_slices_do_not_cut_escapes(unit: str, shift: int) -> None:
    """A long text of escape sequences is decoded right wherever its slices end."""
    text = "A" * shift + unit * (400_000 // len(unit))
    plain = json.loads(f'"{text}"').replace("\n", "").replace("\r", "")
    padding = "A" * (-len(plain) % 4)
    assert await details(in_body(text + padding)) == [base64.b64decode(plain + padding)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\\\\" * 200_000 + "A", r"has '\\' at position 0"),
        ("A" * 131_071 + "ü" * 9, "has 'ü' at position 131071"),
        ("AAAA" * 50_000 + "\\n= ", "has ' ' at position 200002"),
    ],
)
async def test_a_late_fault_has_its_position(text: str, words: str) -> None:
    """Positions count the characters of the string, line breaks too, beyond the first slice."""
    (detail,) = await details(in_body(text))
    assert words in str(detail)


@pytest.mark.parametrize("body", [b"\x80" * MEBIBYTE, b"\xf0\x9f\x98\x80" * (MEBIBYTE // 4), b"\\" * MEBIBYTE])
async def test_any_long_string_is_an_error(body: bytes) -> None:
    """A string of continuation bytes, emoji or backslashes ends in an error."""
    try:
        (image,) = await read_instances(b'{"instances": [{"b64": "' + body + b'"}]}', MAX_IMAGES)
    except BadRequest:
        return
    assert isinstance(image, BadRequest)


async def test_a_body_takes_less_than_three_times_its_size() -> None:
    """One large image in JSON: its text, its pieces and the image are less than three bodies, the text included."""
    body = in_body("AAAA" * MEBIBYTE).encode()
    tracemalloc.start()
    try:
        (image,) = await read_instances(body, MAX_IMAGES)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert image == bytes(3 * MEBIBYTE)
    assert len(body) + peak < 3 * len(body)


async def test_others_are_served_between_slices() -> None:
    """While 16 MiB of base64 are decoded, the event loop runs others many times."""
    body = in_body("AAAA" * (4 * MEBIBYTE)).encode()
    reading = asyncio.create_task(read_instances(body, MAX_IMAGES))
    turns = 0
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 100


LEAVES = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8) | st.sampled_from(["MQ==", 'MQ=="', "MQ\n=="])
)
NAMES = st.sampled_from(["instances", "b64", "x", '"', "\\"])
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner), max_leaves=8
)
INSTANCES = st.fixed_dictionaries({"instances": st.lists(st.dictionaries(NAMES, LEAVES) | LEAVES, max_size=5)})


@settings(max_examples=300, deadline=None)
@given(document=DOCUMENTS | INSTANCES, ascii_only=st.booleans(), indent=st.none() | st.integers(0, 3))
def test_documents_are_read_as_the_standard_library_reads_them(
    document: object, ascii_only: bool, indent: int | None
) -> None:
    """The images are those that json.loads finds, and what is no image is an error of ours."""
    instances = document.get("instances") if isinstance(document, dict) else None
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    if not isinstance(instances, list) or len(instances) > MAX_IMAGES:
        with pytest.raises(BadRequest if not isinstance(instances, list) else TooManyImages):
            asyncio.run(read_instances(text, MAX_IMAGES))
        return
    texts = [instance.get("b64") if isinstance(instance, dict) else None for instance in instances]
    found = asyncio.run(read_instances(text, MAX_IMAGES))
    for b64, image in zip(texts, found, strict=True):
        assert image == b"1" if b64 in ("MQ==", "MQ\n==") else isinstance(image, BadRequest) or b64


@settings(max_examples=300, deadline=None)
@given(
    text=st.lists(
        st.sampled_from(['"', "\\", "{", "}", "[", "]", ",", ":", "instances", "b64", "MQ==", "u0", "1", " "])
    ).map("".join)
)
def test_any_text_gives_images_or_an_error_of_ours(text: str) -> None:
    """No text makes the reader fail, and none is taken that the standard library does not take."""
    try:
        images = asyncio.run(read_instances(text.encode(), MAX_IMAGES))
    except (BadRequest, TooManyImages):
        return
    assert len(json.loads(text)["instances"]) == len(images)


@pytest.mark.parametrize("piece", ["{},", "[", '"",', '\\"', '{"b64":"', "\\", " "])
def test_reading_takes_little_time(piece: str) -> None:
    """A body of 16 MiB that repeats one piece is read or refused in a fraction of a second."""
    body = ('{"instances": [' + piece * (16 * MEBIBYTE // len(piece))).encode()
    started = time.process_time()
    with pytest.raises((BadRequest, TooManyImages)):
        asyncio.run(read_instances(body, 64))
    assert time.process_time() - started < 0.5
