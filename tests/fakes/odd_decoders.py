"""Decoder processes that do what a file's text says, as a library with a fault would. Run as a zygote's module."""

import ctypes
import os
import signal
import sys
import threading

from app.decoding.decoder import FREE_BYTES
from app.decoding.messages import COST, COSTLY, PIXELS, Task
from app.decoding.zygote import main


def answer(data: bytes, granted: int, task: Task) -> tuple[int, bytes]:
    """Grey pixels, unless the file is `crash`, `loop`, `hang`, `eat`, `lie` or `cost BYTES`."""
    word, _, number = data.decode().partition(" ")
    if word == "cost" and int(number) > FREE_BYTES + granted:
        return COSTLY, COST.pack(int(number))
    if word == "lie":
        return PIXELS, b"too short"
    if word == "kind":
        return int(number), b""
    if word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "loop":
        while True:
            pass
    if word == "hang":
        threading.Event().wait()
    if word == "eat":
        ctypes.memset(ctypes.create_string_buffer(int(number)), 1, int(number))
    if word == "flood":
        sys.stderr.write("x" * int(number))
    size = task.preprocessing.size
    return PIXELS, bytes([127]) * (size * size * task.preprocessing.channels)


if __name__ == "__main__":
    main(answer)
