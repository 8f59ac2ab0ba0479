"""A gate in front of a service's model, for tests of what happens while it is busy."""

import asyncio
import threading
from collections.abc import Sequence

import httpx

from app.serving.entry import NetworkInput
from models.predictions import Logits
from tests.fakes.service import pipeline_of


class Gate:
    """Holds every batch of a service until it is opened."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        pipeline = pipeline_of(client)
        self._open, self._entered = threading.Event(), threading.Semaphore(0)
        [self._classifier] = pipeline.model.classifiers
        self._compute_logits = self._classifier.compute_logits

    def __enter__(self) -> "Gate":
        def compute_logits(images: Sequence[NetworkInput]) -> Logits:
            self._entered.release()
            self._open.wait()
            return self._compute_logits(images)

        self._classifier.compute_logits = compute_logits  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()
        self._classifier.compute_logits = self._compute_logits  # type: ignore[method-assign]

    async def entered(self) -> None:
        """Waits until a batch is held."""
        await asyncio.to_thread(self._entered.acquire)
