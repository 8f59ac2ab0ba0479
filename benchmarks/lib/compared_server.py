"""One row of a comparison of servers: the server, its measurements, and how many of its labels were right."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import orjson

from benchmarks.lib.client import Client
from benchmarks.lib.loops import percentile, run_open_loop
from benchmarks.lib.multipart import FORM_TYPE
from benchmarks.lib.report import median
from benchmarks.lib.rounds import Measurement, compute_rate_ratios, measure_server, resume_server
from benchmarks.lib.server import ServerProcess, start_server

LOAD = 0.7  # of a server's own throughput, for the latency of a server that is not saturated
WARM_UP_SECONDS = 2.0
HEAD = (
    "| server | precision | images/s | ours / this | ours in float32 / this | CPU ms an image "
    f"| p50 ms | p99 ms | n | p99 ms at {LOAD:.0%} load | n | right labels |"
)


class LabelCheck:
    """Sends forms, and compares the answers with the `labels` of these forms."""

    def __init__(self, labels: Mapping[bytes, str]) -> None:
        self._labels = labels
        self._answers: list[tuple[bytes, bytes]] = []
        self.sent = self.answered = self.right = 0

    async def post(self, client: Client, body: bytes) -> int:
        self.sent += 1
        reply = await client.request("POST", "/predict", body, Content_Type=FORM_TYPE)
        if reply.status == 200:
            self._answers.append((body, reply.body))
        return reply.status

    def check_answers(self) -> None:
        """Compares the labels of the answers so far. It parses JSON, so it must not run during a measurement.

        vggserve answers with a list of predictions, a peer with the label at the top level.
        """
        self.answered += len(self._answers)
        for body, answer in self._answers:
            document = orjson.loads(answer)
            self.right += document.get("predictions", [document])[0]["label"] == self._labels[body]
        self._answers.clear()


@dataclass(slots=True)
class ComparedServer:
    """A server and its measurements. `server` is None if it could not be started, and `fault` says why."""

    name: str
    command: tuple[str, ...]
    check: LabelCheck
    ours: bool = False
    fault: str = ""
    precision: str = "float32"
    server: ServerProcess | None = None
    closed: list[Measurement] = field(default_factory=list)
    loaded: list[float] = field(default_factory=list)  # milliseconds at LOAD

    async def start(self, stack: AsyncExitStack, forms: Sequence[bytes], clients: int) -> None:
        """Starts the server, warms it up with `clients` clients, and pauses it."""
        if self.fault:
            return
        print(f"starting {self.name}", file=sys.stderr)
        try:
            server = await stack.enter_async_context(start_server(*self.command))
        except (OSError, RuntimeError, TimeoutError) as error:
            self.fault = (str(error).strip() or "it was not ready in time").splitlines()[-1]
            return
        async with resume_server(server, forms[0], self.check.post), Client(server.url) as client:
            await measure_server(server, forms, clients, WARM_UP_SECONDS, self.check.post)
            if self.ours:
                self.precision = orjson.loads((await client.request("GET", "/model")).body)["dtype"]
        self.check.check_answers()
        self.server = server

    async def measure_round(self, forms: Sequence[bytes], clients: int, seconds: float, seed: int) -> None:
        """Measures one round: a closed loop, then an open loop at LOAD of the throughput so far."""
        if self.server is None:
            return
        async with resume_server(self.server, forms[0], self.check.post):
            self.closed.append(await measure_server(self.server, forms, clients, seconds, self.check.post))
            if rate := LOAD * median([turn.rate for turn in self.closed]):
                result = await run_open_loop(self.server.url, forms, rate, seconds, self.check.post, seed)
                self.loaded += result.milliseconds
        self.check.check_answers()

    def format_row(self, ours: Sequence[Measurement], float32: Sequence[Measurement]) -> str:
        """A row of the Markdown table, with the ratios to `ours` and to `float32`."""
        if self.server is None:
            return f"| {self.name} | could not be started: {self.fault} {'|' * (HEAD.count('|') - 2)}"
        ms = [value for turn in self.closed for value in turn.milliseconds]
        check = self.check
        lost = f", **{check.sent - check.answered} more got no answer**" if check.answered < check.sent else ""
        wrong = self.precision == "float32" and check.right < check.answered
        right = f"{'**wrong:** ' if wrong else ''}{check.right} of {check.answered}{lost}"
        cells = (
            self.name,
            self.precision,
            f"{median([turn.rate for turn in self.closed]):.1f}",
            f"{median(compute_rate_ratios(ours, self.closed)):.2f}",
            f"{median(compute_rate_ratios(float32, self.closed)):.2f}",
            f"{1000 * median([turn.cpu_seconds for turn in self.closed]):.2f}",
            f"{percentile(ms, 0.5):.1f}",
            f"{percentile(ms, 0.99):.1f}",
            str(len(ms)),
            f"{percentile(self.loaded, 0.99):.1f}",
            str(len(self.loaded)),
            right,
        )
        return f"| {' | '.join(cells)} |"
