"""The peers of `benchmarks.peers`: the same network behind HTTP as it is usually written.

`python -m benchmarks.lib.peer_servers async CHECKPOINT` decodes and computes on the event loop, `threads` in
FastAPI's thread pool; `benchmarks/lib/peer_litserve.py` has the third. All three use the network in
torch's eager mode in float32, without fusing. They read checkpoints and images by `models/`, as the service
does. They answer with one label and its probability, which is less work than the service does.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI, UploadFile
from torch import Tensor

from models.checkpoint import read_checkpoint, restore_model
from models.image_files import read_pixels
from models.normalise import normalise

PeerAnswer = dict[str, str | float]


class PeerNetwork:
    """The checkpoint's network on a device, and the labels that it gives."""

    def __init__(self, checkpoint: Path, device: str) -> None:
        loaded = read_checkpoint(checkpoint)
        self._labels = loaded.metadata.labels
        self._preprocessing = loaded.metadata.preprocessing
        self._device = device
        self._model = restore_model(loaded).to(device)

    def decode(self, image: bytes) -> Tensor:
        """An image file's bytes -> (C, S, S) float32."""
        batch = torch.from_numpy(read_pixels(image, self._preprocessing)[None].copy())
        return normalise(batch, self._preprocessing)[0].contiguous()

    @torch.inference_mode()
    def predict_batch(self, batch: Tensor) -> list[PeerAnswer]:
        """(N, C, S, S) float32 -> N answers."""
        best = self._model(batch.to(self._device)).softmax(dim=1).max(dim=1)
        return [
            {"label": self._labels[index], "probability": probability}
            for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def classify(self, images: Sequence[bytes]) -> list[PeerAnswer]:
        """Decodes image files and returns an answer for each."""
        return self.predict_batch(torch.stack([self.decode(image) for image in images]))


def create_app(kind: str, network: PeerNetwork) -> FastAPI:
    """One endpoint, `async` on the event loop or in the pool of `threads`."""
    app = FastAPI()

    @app.get("/health/ready")
    async def ready() -> str:
        return "ready"

    if kind == "async":

        @app.post("/predict")
        async def predict_on_loop(file: UploadFile) -> PeerAnswer:
            return network.classify([await file.read()])[0]

    else:

        @app.post("/predict")
        def predict_in_thread(file: UploadFile) -> PeerAnswer:
            return network.classify([file.file.read()])[0]

    return app


def main() -> None:
    """Serves on a free port of the loopback address, with uvicorn's defaults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("async", "threads"))
    parser.add_argument("checkpoint", type=Path)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    uvicorn.run(create_app(arguments.kind, PeerNetwork(arguments.checkpoint, device)), port=0)


if __name__ == "__main__":
    main()
