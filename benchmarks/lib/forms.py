"""Multipart bodies with images in them.

Owns their boundary, and so their media type. Knows nothing of who asks.
"""

from collections.abc import Sequence

_BOUNDARY = "a-boundary-between-parts"
FORM_TYPE = f"multipart/form-data; boundary={_BOUNDARY}"
_HEAD = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="image"\r\n\r\n'.encode()


def form(images: Sequence[bytes]) -> bytes:
    """A body with each image as a file."""
    return b"".join((*(_HEAD + image + b"\r\n" for image in images), f"--{_BOUNDARY}--\r\n".encode()))
