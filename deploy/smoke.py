"""Sends the checkpoint's golden sample to the server in this container, and compares the answer with the stored logits.

Runs inside the image, with the server's own variables: `docker exec -i NAME python - < deploy/smoke.py`. The first
request has the image as its body. The second is a multipart body with an image of several megabytes before it. A server
with a read-only file system must keep that body in memory.
"""

import http.client
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from models.checkpoint import read_checkpoint
from models.probabilities import softmax

TIMEOUT_S = 60.0
TOLERANCE = 0.02  # the largest difference of a probability in half precision
LARGE_SIDE = 1200  # pixels; as noise in a BMP, 4.3 MB
BOUNDARY = "image-boundary"


def main() -> str | None:
    """Returns None if both answers are right, else the fault of one of them."""
    metadata = read_checkpoint(Path(os.environ["VGG_CHECKPOINT"])).metadata
    golden = metadata.golden
    probabilities = softmax(torch.tensor([golden.logits]), metadata.temperature)[0].tolist()
    for body, content_type in ((golden.image, "image/png"), _multipart(_noise(), golden.image)):
        status, answer = _post(body, content_type)
        if status != http.client.OK:
            return f"{content_type}: {status} {answer}"
        found = answer["predictions"][-1]
        moved = max(abs(a - b) for a, b in zip(found["probabilities"], probabilities, strict=True))
        sys.stdout.write(f"{content_type}: {len(body)} bytes, {found['label']}, off by at most {moved:.1e}\n")
        if moved > TOLERANCE:
            return f"a probability is off by {moved}, but must not be by more than {TOLERANCE}"
    return None


def _post(body: bytes, content_type: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("VGG_PORT") or "8000"), timeout=TIMEOUT_S)
    connection.request("POST", "/predict", body, {"Content-Type": content_type})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def _noise() -> bytes:
    image = io.BytesIO()
    Image.effect_noise((LARGE_SIDE, LARGE_SIDE), 64).convert("RGB").save(image, "BMP")
    return image.getvalue()


def _multipart(*images: bytes) -> tuple[bytes, str]:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n\r\n'.encode()
    body = b"".join(head + image + b"\r\n" for image in images) + f"--{BOUNDARY}--\r\n".encode()
    return body, f"multipart/form-data; boundary={BOUNDARY}"


if __name__ == "__main__":
    sys.exit(main())
