"""JPEG (ITU-T T.81): markers up to the end of the first picture.

Owns which segments are kept: tables, frame and scans, and of the application segments JFIF's and Adobe's, which decide
the colours. What follows the end of the picture (a film, more pictures) is not looked at.
"""

import re
import struct
from collections.abc import Sequence

from models.formats.directory import read_orientation
from models.formats.plain import (
    MAX_PARTS,
    MAX_PROFILE_BYTES,
    ImageFault,
    PlainFile,
    broken,
    check_pixels,
    too_many_parts,
)

# A progressive JPEG is decoded once for each scan, and a scan can be ten bytes long. So a small file can take minutes.
# Encoders write about ten scans; none writes a hundred.
MAX_SCANS = 100
MAX_SCANS_AT_FULL_SIZE = 10
MAX_TABLE_BYTES = 65_536  # before the first scan; all tables that a frame can use have 3,000

START, END, SCAN = 0xD8, 0xD9, 0xDA
MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # any but restarts; in a scan's data 0xff is escaped as 0xff 0x00
FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
PROGRESSIVE = frozenset({0xC2, 0xCA})
OTHER_FRAMES = {
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "hierarchical",
    0xCB: "lossless",
    0xCD: "hierarchical",
    0xCE: "hierarchical",
    0xCF: "hierarchical",
    0xDE: "hierarchical",
}
TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDD})  # Huffman, arithmetic, quantisation, restart interval


def simplify_jpeg(data: bytes, max_pixels: int) -> PlainFile:
    """The first picture of a JPEG file. Raises ImageFault and TooManyPixels."""
    header = _Header(max_pixels, "JPEG", components=(1, 3, 4))
    at = 2
    while (found := MARKER.search(data, at)) and found[1][0] != SCAN:
        at = header.read(data, found)
    if not found or not header.components:
        raise broken("JPEG")
    scans, end = _count_scans(data, found.start())
    area = header.width * header.height
    if scans > MAX_SCANS or (scans * area > MAX_SCANS_AT_FULL_SIZE * max_pixels):
        raise ImageFault(f"The JPEG file has {scans} scans, more than {MAX_SCANS} or than its size allows.")
    keeps_coefficients = header.is_progressive or scans > 1
    return PlainFile(
        "JPEG",
        b"".join([b"\xff\xd8", *header.colours.values(), *header.tables, memoryview(data)[found.start() : end]]),
        header.width,
        header.height,
        pixel_bytes=1 if header.components == 1 else 4,
        buffer_bytes=int(2 * area * header.samples_per_pixel) if keeps_coefficients else 0,
        orientation=read_orientation(header.exif),
        profile=header.profile(),
    )


def check_jpeg_blocks(
    data: bytes, offsets: Sequence[int], byte_counts: Sequence[int], block_pixels: int, max_pixels: int
) -> None:
    """Bounds the JPEG streams in a TIFF file's strips or tiles. Raises ImageFault and TooManyPixels."""
    scans = 0
    for start, size in zip(offsets, byte_counts, strict=True):
        block = data[start : start + size]
        header, at = _Header(max_pixels, "TIFF", components=(1, 2, 3, 4)), 2
        while (found := MARKER.search(block, at)) and found[1][0] != SCAN:
            at = header.read(block, found)
        if not found:
            raise broken("TIFF")
        of_block, _ = _count_scans(block, found.start())
        scans += of_block
        if of_block > MAX_SCANS or scans * block_pixels > MAX_SCANS_AT_FULL_SIZE * max_pixels:
            raise ImageFault(f"The TIFF file has JPEG streams of {scans} scans, more than its size allows.")


class _Header:
    """What stands before the first scan."""

    def __init__(self, max_pixels: int, name: str, components: tuple[int, ...]) -> None:
        self.width = self.height = self.components = 0
        self.samples_per_pixel = 0.0
        self.is_progressive = False
        self.exif = b""
        self.tables: list[bytes] = []
        self.colours: dict[int, bytes] = {}  # JFIF's first and Adobe's last segment, as libjpeg takes them
        self._max_pixels = max_pixels
        self._name = name
        self._known_components = components
        self._table_bytes = 0
        self._segments = 0
        self._profile: dict[int, bytes] = {}
        self._profile_parts = 0
        self._profile_bytes = 0

    def read(self, data: bytes, found: re.Match[bytes]) -> int:
        """Takes what is needed of the marker that was found; where to look for the next one."""
        marker, body = found[1][0], found.end() + 2
        self._segments += 1
        if self._segments > MAX_PARTS:
            raise too_many_parts(self._name)
        if marker in (0x01, START):  # stands alone
            return found.end()
        length = int.from_bytes(data[found.end() : body]) - 2
        if marker == END or length < 0 or body + length > len(data):
            raise broken(self._name)
        if 0xE0 <= marker <= 0xEF:
            self._read_application(marker, data, found.start(), body, length)
        elif marker in FRAMES:
            self._read_frame(marker, data[body : body + length])
            self._keep(data[found.start() : body + length])
        elif marker in TABLES:
            self._keep(data[found.start() : body + length])
        elif marker in OTHER_FRAMES:
            raise ImageFault(f"The {self._name} file is {OTHER_FRAMES[marker]}, a variant that is not read.")
        return body + length

    def profile(self) -> bytes | None:
        """The ICC profile, if all its parts are there."""
        if not self._profile or sorted(self._profile) != list(range(1, self._profile_parts + 1)):
            return None
        return b"".join(self._profile[number] for number in sorted(self._profile))

    def _read_frame(self, marker: int, body: bytes) -> None:
        if self.components or len(body) < 6 or len(body) < 6 + 3 * body[5]:
            raise broken(self._name)
        precision, self.height, self.width, self.components = struct.unpack(">BHHB", body[:6])
        if precision != 8:
            raise ImageFault(f"The {self._name} file has samples of {precision} bits, but only those of 8 are read.")
        if not self.height:
            raise ImageFault(f"The {self._name} file has its height behind the picture, a variant that is not read.")
        if not self.width:
            raise broken(self._name)
        if self.components not in self._known_components:
            known = ", ".join(map(str, self._known_components))
            raise ImageFault(f"The {self._name} file has {self.components} components, but only {known} are read.")
        check_pixels(self.width, self.height, self._max_pixels)
        factors = [(byte >> 4, byte & 15) for byte in body[7 : 6 + 3 * self.components : 3]]
        if not all(1 <= factor <= 4 for pair in factors for factor in pair):
            raise broken(self._name)
        largest = max(h for h, _ in factors) * max(v for _, v in factors)
        self.samples_per_pixel = sum(h * v for h, v in factors) / largest
        self.is_progressive = marker in PROGRESSIVE

    def _read_application(self, marker: int, data: bytes, start: int, body: int, length: int) -> None:
        end = body + length
        if marker == 0xE1 and not self.exif and data.startswith(b"Exif\0\0", body, end):
            self.exif = data[body:end]
        elif marker == 0xE2 and length > 14 and data.startswith(b"ICC_PROFILE\0", body, end):
            number, self._profile_parts = data[body + 12], data[body + 13]
            self._profile_bytes += length
            if number not in self._profile and self._profile_bytes <= MAX_PROFILE_BYTES:
                self._profile[number] = data[body + 14 : end]
        elif marker == 0xEE and data.startswith(b"Adobe", body, end):
            self.colours[marker] = data[start:end]
        elif marker == 0xE0 and data.startswith(b"JFIF\0", body, end):
            self.colours.setdefault(marker, data[start:end])

    def _keep(self, segment: bytes) -> None:
        self._table_bytes += len(segment)
        if self._table_bytes > MAX_TABLE_BYTES:
            raise ImageFault(f"The {self._name} file has more than {MAX_TABLE_BYTES} bytes of tables.")
        self.tables.append(segment)


def _count_scans(data: bytes, at: int) -> tuple[int, int]:
    """The number of scans from the first one's marker on, and where the picture ends."""
    scans = 0
    for _ in range(MAX_PARTS):
        found = MARKER.search(data, at)
        if not found:
            return scans, len(data)  # the decoder finds out whether the picture is whole
        marker, at = found[1][0], found.end()
        if marker == END:
            return scans, at
        if marker in (0x01, START):
            continue
        scans += marker == SCAN
        at += max(2, int.from_bytes(data[at : at + 2]))
    raise too_many_parts("JPEG")
