"""The metrics on a port of their own."""

import socket
import urllib.request

from app.metrics import Metrics


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_metrics_can_have_a_port_of_their_own() -> None:
    """Within the block the series are answered there, after it nothing listens."""
    metrics, port = Metrics(), free_port()
    metrics.requests.labels("/predict", "200").inc()
    with metrics.served_on("127.0.0.1", port), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert b'vgg_requests_total{route="/predict",status="200"} 1.0' in answer.read()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_two_services_do_not_add_up() -> None:
    """Each service has its own registry."""
    first, second = Metrics(), Metrics()
    first.requests.labels("/predict", "200").inc()
    assert b'route="/predict"' not in second.render()


def test_counters_are_shown_before_they_count() -> None:
    """A series that is 0 is there from the start, so that an alert on its growth works."""
    text = Metrics().render().decode()
    for name in ("vgg_image_warnings_total", "vgg_log_lines_dropped_total"):
        assert f"{name} 0.0" in text
