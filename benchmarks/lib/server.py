"""A server in a process of its own, for measurements.

Owns starting it, waiting until it is ready, ending it with every process that it started, and reading its memory and
its CPU time from /proc.
"""

import asyncio
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from benchmarks.lib.client import Client

START_SECONDS, END_SECONDS = 300, 60


class ServerProcess:
    """A server that listens at `url` and writes its log to the file `log`. It has a session (setsid) of its own."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log
        self.url = ""

    def resident_megabytes(self) -> float:
        """Resident memory of the process now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def peak_megabytes(self) -> float:
        """The largest resident memory since the start."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def cpu_seconds(self) -> float:
        """CPU time, user and system, of all processes of the session and of their children that have ended.

        Fields 14 to 17 of /proc/PID/stat (proc(5)), summed over every PID whose field 6 is the session.
        """
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # a process that has just ended
                fields = path.read_text().rpartition(")")[2].split()  # from field 3 on; a name may hold anything
                if int(fields[3]) == self.process.pid:
                    ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def pause(self) -> None:
        """Stops every process of the server, so that it takes no CPU time while others are measured."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continues every process of the server."""
        self._signal(signal.SIGCONT)

    async def wait_until_ready(self) -> None:
        """Waits until the server answers that it is ready. Raises RuntimeError with its log if it ends instead."""
        while self.process.returncode is None:
            if found := re.search(r"[Rr]unning on (http://\S+)", self.log.read_text()):
                self.url = found[1]
                with suppress(OSError, asyncio.IncompleteReadError):  # bound, but it may not listen yet
                    async with Client(self.url) as client:
                        if (await client.request("GET", "/health/ready")).status == 200:
                            return
            await asyncio.sleep(0.025)
        raise RuntimeError(self.log.read_text())

    async def end(self) -> None:
        """Sends SIGTERM to the first process, waits, and kills the processes that are left."""
        try:
            if self.process.returncode is None:
                self.resume()
                self.process.terminate()
                async with asyncio.timeout(END_SECONDS):
                    await self.process.wait()
        except TimeoutError:
            pass
        finally:
            self._signal(signal.SIGKILL)
        await self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


@asynccontextmanager
async def start_server(*command: str) -> AsyncIterator[ServerProcess]:
    """Runs the command as a server, ready for the block and ended with it. It must log `running on URL`.

    Raises RuntimeError with its log if it ends before it is ready, TimeoutError if it never is.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=file, stderr=asyncio.subprocess.STDOUT, start_new_session=True
            )
        server = ServerProcess(process, log)
        try:
            async with asyncio.timeout(START_SECONDS):
                await server.wait_until_ready()
            yield server
        finally:
            await server.end()


@asynccontextmanager
async def start_vggserve(checkpoint: Path, *arguments: str) -> AsyncIterator[ServerProcess]:
    """Runs vggserve on a free port of the loopback address, ready for the block and ended with it."""
    command = (sys.executable, "-m", "app", "--checkpoint", str(checkpoint), "--port", "0", *arguments)
    async with start_server(*command) as server:
        yield server
