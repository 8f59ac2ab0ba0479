"""A server of ours in a process of its own, for measurements.

Owns starting it, waiting until it is ready, and what the kernel says of its memory.
"""

import asyncio
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.client import Client


class ServerProcess:
    """`url` is where it listens; its log is in the file `log`."""

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

    async def ready(self) -> None:
        """Returns once the server answers that it is ready. Raises RuntimeError if it ends instead."""
        while self.process.returncode is None:
            if found := re.search(r"running on (http://\S+)", self.log.read_text()):
                self.url = found[1]
                async with Client(self.url) as client:
                    if (await client.request("GET", "/health/ready")).status == 200:
                        return
            await asyncio.sleep(0.05)
        raise RuntimeError(self.log.read_text())


@asynccontextmanager
async def serving(checkpoint: Path, *arguments: str) -> AsyncIterator[ServerProcess]:
    """A ready server on a free port of the loopback address, ended with the block."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            command = (sys.executable, "-m", "app", "--checkpoint", str(checkpoint), "--port", "0", *arguments)
            process = await asyncio.create_subprocess_exec(*command, stderr=file)
        server = ServerProcess(process, log)
        try:
            await server.ready()
            yield server
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
