"""What others feel while a server is attacked: probes and a sound image, sent all the time by a process of its own.

`python -m benchmarks.lib.probes URL [KEY]` prints one line for each answer: what, the second at which it was sent, and
the seconds that it took. Owns also the memory of a process and its children.
"""

import http.client
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from benchmarks.lib.dear_images import make_sound_image

PAUSES = {"probe": 0.02, "image": 0.1}  # seconds between two
TIMEOUT = 30.0


class Probes:
    """The process, started for the block; and a thread that reads the server's memory every 20 ms."""

    def __init__(self, url: str, pid: int | None, key: str) -> None:
        self._command = (sys.executable, "-m", "benchmarks.lib.probes", url, key)
        self._pid = pid
        self._answers: list[tuple[str, float, float]] = []
        self._memory: list[tuple[float, float]] = []
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)  # noqa: S603
        self._threads = [threading.Thread(target=self._read_answers), threading.Thread(target=self._read_memory)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._process.terminate()
        self._process.wait()
        for thread in self._threads:
            thread.join()

    def _read_answers(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            what, sent, seconds = line.split()
            self._answers.append((what, float(sent), float(seconds)))

    def _read_memory(self) -> None:
        while self._pid is not None and not self._ended.wait(0.02):
            self._memory.append((time.monotonic(), read_megabytes(self._pid)))

    def wait_for(self, what: str, since: float) -> None:
        """Returns when one that was sent after `since` is answered, or after TIMEOUT."""
        until = time.monotonic() + TIMEOUT
        while time.monotonic() < until:
            if any(name == what and sent >= since for name, sent, _ in self._answers):
                return
            time.sleep(0.02)

    def worst(self, what: str, since: float) -> float:
        """The most milliseconds that one took which was answered after `since`; not a number without any."""
        return 1000 * max(
            (seconds for name, sent, seconds in self._answers if name == what and sent + seconds >= since),
            default=float("nan"),
        )

    def megabytes(self, since: float) -> tuple[float, float, float]:
        """Resident memory of the server at `since`, at its peak since then, and now."""
        values = [megabytes for at, megabytes in self._memory if at >= since]
        return (values[0], max(values), values[-1]) if values else (float("nan"),) * 3


def read_megabytes(pid: int) -> float:
    """Resident memory of a process and of all that it has started; 0 once it has ended."""
    total = 0
    with suppress(OSError):
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    megabytes = total / 2**20
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            megabytes += sum(read_megabytes(int(child)) for child in children.read_text().split())
    return megabytes


def send_for_ever(url: str, what: str, key: str) -> None:
    """Sends one after the other and prints a line for each. A lost one counts until a new connection answers."""
    parts, image, began = urlsplit(url), make_sound_image(), time.monotonic()
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=TIMEOUT)
    while True:
        try:
            if what == "probe":
                connection.request("GET", "/health/live")
            else:
                connection.request("POST", "/predict", image, {"X-API-Key": key} if key else {})
            response = connection.getresponse()
            response.read()
            right = response.status == 200
        except (OSError, http.client.HTTPException):
            connection.close()
            right = False
        if right:
            os.write(1, f"{what} {began} {time.monotonic() - began}\n".encode())  # at once: two threads write
        time.sleep(PAUSES[what])
        if right:
            began = time.monotonic()


def main() -> None:
    """Runs until it is terminated."""
    url, key = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    threading.Thread(target=send_for_ever, args=(url, "image", key), daemon=True).start()
    send_for_ever(url, "probe", key)


if __name__ == "__main__":
    main()
