"""One row of a side by side: a server, what was measured of it, and whether its answers were right.

Knows nothing of which servers there are.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import orjson

from benchmarks.lib.client import Client
from benchmarks.lib.forms import FORM_TYPE
from benchmarks.lib.rounds import Visit, awake, median, ratios, visit
from benchmarks.lib.server import ServerProcess, running
from benchmarks.load import open_loop, percentile

LOAD = 0.7  # of a server's own throughput, for the latency that callers see where there is room left
WARM_UP_SECONDS = 2.0
HEAD = (
    "| server | precision | images/s | ours / this | ours in float32 / this | CPU ms an image "
    f"| p50 ms | p99 ms | n | p99 ms at {LOAD:.0%} load | n | right labels |"
)


class Judge:
    """Sends forms, and holds the answers against the `labels` of these forms."""

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

    def judge(self) -> None:
        """Not while the clock runs: reading JSON is work. Ours nests its answer, the peers' have the label on top."""
        self.answered += len(self._answers)
        for body, answer in self._answers:
            document = orjson.loads(answer)
            self.right += document.get("predictions", [document])[0]["label"] == self._labels[body]
        self._answers.clear()


@dataclass(slots=True)
class Contestant:
    """`server` is None where it could not be started, and `fault` says why. `ours` can be asked for its precision."""

    name: str
    command: tuple[str, ...]
    judge: Judge
    ours: bool = False
    fault: str = ""
    precision: str = "float32"
    server: ServerProcess | None = None
    closed: list[Visit] = field(default_factory=list)
    loaded: list[float] = field(default_factory=list)  # milliseconds at LOAD

    async def start(self, stack: AsyncExitStack, forms: Sequence[bytes], clients: int) -> None:
        """Starts the server, warms it up with as many clients as will be, and pauses it until its turn."""
        if self.fault:
            return
        print(f"starting {self.name}", file=sys.stderr)
        try:
            server = await stack.enter_async_context(running(*self.command))
        except (OSError, RuntimeError, TimeoutError) as error:
            self.fault = (str(error).strip() or "it was not ready in time").splitlines()[-1]
            return
        async with awake(server, forms[0], self.judge.post), Client(server.url) as client:
            await visit(server, forms, clients, WARM_UP_SECONDS, self.judge.post)
            if self.ours:
                self.precision = orjson.loads((await client.request("GET", "/model")).body)["dtype"]
        self.judge.judge()
        self.server = server

    async def take_turn(self, forms: Sequence[bytes], clients: int, seconds: float, seed: int) -> None:
        """One round: a closed loop, then an open one at LOAD of the throughput so far."""
        if self.server is None:
            return
        async with awake(self.server, forms[0], self.judge.post):
            self.closed.append(await visit(self.server, forms, clients, seconds, self.judge.post))
            if rate := LOAD * median([turn.rate for turn in self.closed]):
                result = await open_loop(self.server.url, forms, rate, seconds, self.judge.post, seed)
                self.loaded += result.milliseconds
        self.judge.judge()

    def row(self, ours: Sequence[Visit], float32: Sequence[Visit]) -> str:
        """A row of the Markdown table."""
        if self.server is None:
            return f"| {self.name} | could not be started: {self.fault} {'|' * (HEAD.count('|') - 2)}"
        ms = [value for turn in self.closed for value in turn.milliseconds]
        judge = self.judge
        lost = f", **{judge.sent - judge.answered} more got no answer**" if judge.answered < judge.sent else ""
        wrong = self.precision == "float32" and judge.right < judge.answered
        right = f"{'**wrong:** ' if wrong else ''}{judge.right} of {judge.answered}{lost}"
        cells = (
            self.name,
            self.precision,
            f"{median([turn.rate for turn in self.closed]):.1f}",
            f"{median(ratios(ours, self.closed)):.2f}",
            f"{median(ratios(float32, self.closed)):.2f}",
            f"{1000 * median([turn.cpu_seconds for turn in self.closed]):.2f}",
            f"{percentile(ms, 0.5):.1f}",
            f"{percentile(ms, 0.99):.1f}",
            str(len(ms)),
            f"{percentile(self.loaded, 0.99):.1f}",
            str(len(self.loaded)),
            right,
        )
        return f"| {' | '.join(cells)} |"
