"""The peer that batches: the same network in LitServe, which `benchmarks.peers` starts in an environment of its own.

`python -m benchmarks.lib.peer_litserve CHECKPOINT BATCH`. Its worker process decodes and computes. All other
settings are the defaults. It waits 10 ms for a batch to fill; its own example waits ten times as long.
"""

import argparse
import socket
from pathlib import Path

import litserve  # type: ignore[import-not-found]
from fastapi import Request
from torch import Tensor

from benchmarks.lib.peer_servers import PeerAnswer, PeerNetwork

BATCH_SECONDS = 0.01


class Classify(litserve.LitAPI):  # type: ignore[misc]
    """`setup`, then for each batch `decode_request` image by image, and `predict`."""

    def __init__(self, checkpoint: Path, batch: int) -> None:
        super().__init__(max_batch_size=batch, batch_timeout=BATCH_SECONDS)
        self._checkpoint = checkpoint

    def setup(self, device: str) -> None:
        """In the worker process."""
        self._network = PeerNetwork(self._checkpoint, device)

    def decode_request(
        self, request: Request
    ) -> Tensor:  # this annotation makes LitServe read a form, which it then passes here
        """A form with one file -> (C, S, S) float32."""
        return self._network.decode(request["file"].file.read())

    def predict(self, batch: Tensor) -> list[PeerAnswer]:
        """(N, C, S, S) float32 -> N answers."""
        return self._network.predict_batch(batch)


def main() -> None:
    """Serves on a free port of the loopback address."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("batch", type=int, help="images a batch at most")
    arguments = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = litserve.LitServer(Classify(arguments.checkpoint, arguments.batch), healthcheck_path="/health/ready")
    server.run(host="127.0.0.1", port=port, generate_client_file=False)


if __name__ == "__main__":
    main()
