"""Attacks a running server on purpose, and says what it answered and what others felt meanwhile.

`python -m benchmarks.attack URL --pid PID` sends head floods, malformed requests, slow and broken bodies, dear images
and clients that do not read, one attack after the other, for a few minutes. Meanwhile another process asks for
/health/live and sends a sound image, again and again. The exit status is 1 if an answer was not the expected one, or if
a probe or a sound image waited for longer than the bound. Attack only a server of your own.
"""

import argparse
import re
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.lib.attacks import Attack, make_attacks
from benchmarks.lib.errors import exit_on_error
from benchmarks.lib.probes import Probes
from benchmarks.lib.raw import Target, send_and_read
from benchmarks.lib.report import describe_machine, format_table
from benchmarks.lib.senders import Result

HEAD = (
    "kind",
    "attack",
    "MB sent",
    "s",
    "answer",
    "expected",
    "worst probe ms",
    "worst image ms",
    "MB before / peak / after",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One attack and what came of it."""

    attack: Attack
    result: Result
    seconds: float
    probe_ms: float
    image_ms: float
    megabytes: tuple[float, float, float]

    def is_expected(self, most_seconds: float) -> bool:
        """Whether the answer is right and nobody else waited for too long."""
        waited = max(self.probe_ms, self.image_ms)
        return bool(re.fullmatch(self.attack.right, self.result.answer)) and waited <= 1000 * most_seconds

    def cells(self, most_seconds: float) -> tuple[str, ...]:
        """The row of the table."""
        right = self.attack.right.replace("|", " or ").replace(r"( x\d+)?", "")
        return (
            self.attack.kind,
            self.attack.name,
            f"{self.result.sent / 1e6:.1f}",
            f"{self.seconds:.1f}",
            self.result.answer,
            right if self.is_expected(most_seconds) else f"**{right}**",
            f"{self.probe_ms:.0f}",
            f"{self.image_ms:.0f}",
            " / ".join(f"{value:.0f}" for value in self.megabytes),
        )


def run_attack(attack: Attack, target: Target, probes: Probes) -> Row:
    """Runs it, then waits until a probe and an image that were sent after it are answered."""
    began = time.monotonic()
    try:
        result = attack.run(target)
    except OSError as error:
        result = Result(0, f"no connection: {error}")
    ended = time.monotonic()
    for what in ("probe", "image"):
        probes.wait_for(what, ended)
    worst = probes.worst("probe", began), probes.worst("image", began)
    return Row(attack, result, ended - began, *worst, probes.megabytes(began))


def find_server(url: str, key: str) -> Target:
    """Raises ValueError if no vggserve that is ready answers there."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    target = Target(parts.hostname or "127.0.0.1", parts.port or 80, key)
    try:
        answer = send_and_read(target, [target.head("GET", "/health/ready")], 10)
    except OSError as error:
        raise ValueError(f"no server answers at {url}: {error.strerror or error}") from error
    if answer.summary() != "200":
        raise ValueError(f"{url} is not ready: GET /health/ready gives {answer.summary()}")
    return target


def main() -> int:
    """Prints the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="http://HOST:PORT of a server of your own")
    parser.add_argument("--pid", type=int, help="the server's process, to read its memory from /proc")
    parser.add_argument(
        "--api-key", default="", help="a right key, if the server has keys; wrong ones are then tried too"
    )
    parser.add_argument("--only", default="", metavar="REGEX", help="attacks whose kind and name match")
    parser.add_argument(
        "--most-seconds", type=float, default=2.0, help="that a probe or an image may wait (default: 2)"
    )
    arguments = parser.parse_args()
    with exit_on_error():
        target = find_server(arguments.url, arguments.api_key)
    failed, count = [], 0
    print(format_table(HEAD), flush=True)
    with Probes(arguments.url, arguments.pid, arguments.api_key) as probes:
        probes.wait_for("image", time.monotonic())
        for attack in make_attacks(keys=bool(arguments.api_key)):
            if not re.search(arguments.only, f"{attack.kind} {attack.name}"):
                continue
            row = run_attack(attack, target, probes)
            count += 1
            print(f"| {' | '.join(row.cells(arguments.most_seconds))} |", flush=True)
            if not row.is_expected(arguments.most_seconds):
                failed.append(attack.name)
    print(
        f"\n{count - len(failed)} of {count} as expected, a probe or image waits {arguments.most_seconds:g} s at most"
    )
    print(describe_machine("fastapi", "uvicorn", "httptools", "pillow"))
    if failed:
        print(f"not as expected: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
