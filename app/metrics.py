"""What the service counts and times, in Prometheus' terms.

Owns names, labels and buckets. Each service has its own registry, so that two in one process do not add up.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """All series of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        r = self._registry
        self.requests = Counter("vgg_requests", "Requests answered", ["route", "status"], registry=r)
        self.request_seconds = Histogram(
            "vgg_request_seconds",
            "Seconds from a request's headers to its answer",
            ["route"],
            buckets=SECONDS,
            registry=r,
        )
        self._in_flight = Gauge("vgg_requests_in_flight", "Requests being answered", registry=r)
        self.dropped = Counter("vgg_dropped", "Images dropped before an answer", ["reason"], registry=r)
        self.batch_size = Histogram("vgg_batch_size", "Images per batch", buckets=IMAGES, registry=r)
        self.decode_seconds = Histogram("vgg_decode_seconds", "Seconds to decode an image", buckets=SECONDS, registry=r)
        self.queue_seconds = Histogram("vgg_queue_seconds", "Seconds that an image waited", buckets=SECONDS, registry=r)
        self.model_seconds = Histogram(
            "vgg_model_seconds", "Seconds of a batch in the model", buckets=SECONDS, registry=r
        )
        self._queue_depth = Gauge("vgg_queue_depth", "Images admitted and not yet in the model", registry=r)
        self.replicas = Gauge("vgg_replicas", "Model replicas that answer rightly", registry=r)
        self.model = Gauge("vgg_model_info", "1 for the model that answers", ["name", "version"], registry=r)
        self.reloads = Counter("vgg_reloads", "Reloads of the checkpoint", ["outcome"], registry=r)
        self.decoders_restarted = Counter(
            "vgg_decoders_restarted", "Decoder processes that an image has ended", ["reason"], registry=r
        )
        self.image_warnings = Counter("vgg_image_warnings", "Warnings of the image library", registry=r)
        self.log_lines_dropped = Counter("vgg_log_lines_dropped", "Log lines that were not written", registry=r)
        for reason in ("crash", "time"):
            self.decoders_restarted.labels(reason)
        for reason in ("deadline", "disconnected"):
            self.dropped.labels(reason)  # shown as 0 before the first one
        for outcome in ("swapped", "refused"):
            self.reloads.labels(outcome)

    def watch_requests(self, count: Callable[[], float]) -> None:
        """Calls `count` whenever the metrics are read."""
        self._in_flight.set_function(count)

    def watch_queue(self, depth: Callable[[], float]) -> None:
        """Asks `depth` whenever the metrics are read."""
        self._queue_depth.set_function(depth)

    @contextmanager
    def served_on(self, host: str, port: int | None) -> Iterator[None]:
        """Answers on a port of its own, from a thread, for the length of the block; with None it does nothing."""
        if port is None:
            yield
            return
        server, thread = start_http_server(port, host, self._registry)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def render(self) -> bytes:
        """The text exposition format, version 0.0.4."""
        return generate_latest(self._registry)
