"""A decoder process: it decodes one image file after another, within limits of time and memory.

A file that makes it crash, loop or run out of memory costs that file alone.
"""

import os
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from app.decoding.images import decode_plain, draw_plain, estimate_bytes, inspect
from app.decoding.messages import (
    COST,
    COSTLY,
    DECODE,
    DRAW,
    ERROR,
    FREE_BYTES,
    JOB,
    PICTURE,
    PIXELS,
    REPLY,
    SIZE,
    SIZED_PIXELS,
    Order,
    Task,
    encode_error,
)
from app.decoding.quiet import count_warnings
from app.errors import Overloaded, ServiceError
from models.formats.plain import PlainFile
from models.image_files import upright_size

# CPU time of a file. Of 35 hostile files of up to 64 million pixels that were decoded none took more than 2 s on an AMD
# EPYC with AVX2. A file that may take 1 GB of memory gets 20 s more.
CPU_SECONDS = 2.0
CPU_SECONDS_PER_BYTE = 2e-8
OPEN_FILES = 16


Answer = Callable[[Order, Task], tuple[int, bytes]]


def serve(connection: socket.socket, task: Task, answer: Answer) -> None:
    """Answers the jobs that arrive on `connection` until it is closed. After a costly one it returns at once.

    The end of the process frees all memory that the costly image took.
    """
    warnings = _Counter()
    count_warnings(warnings.increase)
    _limit_resources()
    used_bytes = _data_bytes()
    with connection, connection.makefile("rb") as jobs:
        while header := jobs.read(JOB.size):
            work, granted, size, rows, columns = JOB.unpack(header)
            # While it is read and inspected, the file is in memory up to four times.
            limit = used_bytes + 4 * size + FREE_BYTES + granted
            resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
            signal.setitimer(signal.ITIMER_PROF, cpu_seconds(granted))  # its signal ends the process
            data, heat = jobs.read(size), jobs.read(rows * columns)
            order = Order(work, data, granted, np.frombuffer(heat, np.uint8).reshape(rows, columns))
            kind, payload = answer(order, task)
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.sendall(REPLY.pack(kind, warnings.count, len(payload)))
            connection.sendall(payload)
            del data, order, payload  # before the next file is read
            warnings.count = 0
            if granted:
                return


def cpu_seconds(granted: int) -> float:
    """The CPU time that an image may take, of which decoding may take `granted` bytes of memory."""
    return CPU_SECONDS + CPU_SECONDS_PER_BYTE * granted


def answer(order: Order, task: Task) -> tuple[int, bytes]:
    """The kind and payload of the reply to a job: what was ordered, an error, or what it costs.

    The cost is told where it is more than FREE_BYTES and what was granted. Where memory runs out although the estimate
    was granted, the cost is the most that any file may take.
    """
    try:
        plain = inspect(order.data, task.max_image_pixels)
        cost = estimate_bytes(plain, task.preprocessing, is_drawn=order.work == DRAW)
        if cost > FREE_BYTES + order.granted:
            return COSTLY, COST.pack(cost)
        return _do_work(order, plain, task)
    except (MemoryError, Overloaded) as error:
        if FREE_BYTES + order.granted < task.largest_cost:
            return COSTLY, COST.pack(task.largest_cost)
        if isinstance(error, MemoryError):
            error = Overloaded("There was not enough memory to decode the image.")
        return ERROR, encode_error(error)
    except ServiceError as error:
        return ERROR, encode_error(error)


def _do_work(order: Order, plain: PlainFile, task: Task) -> tuple[int, bytes]:
    if order.work == DRAW:
        return PICTURE, draw_plain(plain, task.preprocessing, order.heat)
    pixels = decode_plain(plain, task.preprocessing).tobytes()
    return (PIXELS, pixels) if order.work == DECODE else (SIZED_PIXELS, SIZE.pack(*upright_size(plain)) + pixels)


class _Counter:
    count = 0

    def increase(self) -> None:
        self.count += 1


def _limit_resources() -> None:
    """Makes the process the first that the kernel ends where memory is short, and keeps it from files."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))


def _data_bytes() -> int:
    """The memory that RLIMIT_DATA counts, as the process has it now, in bytes (proc(5), statm: pages)."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
