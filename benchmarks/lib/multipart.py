"""Multipart bodies with images in them, and their content type."""

from collections.abc import Sequence

_BOUNDARY = "a-boundary-between-parts"
FORM_TYPE = f"multipart/form-data; boundary={_BOUNDARY}"
_HEAD = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="image"\r\n\r\n'.encode()


def make_form(images: Sequence[bytes]) -> bytes:
    """A body with each image as a file."""
    return b"".join((*(_HEAD + image + b"\r\n" for image in images), f"--{_BOUNDARY}--\r\n".encode()))


def make_forms(images: Sequence[bytes], size: int) -> list[bytes]:
    """As many bodies as there are images, each with the next `size` images."""
    endless = list(images) * (size // len(images) + 2)
    return [make_form(endless[start : start + size]) for start in range(len(images))]
