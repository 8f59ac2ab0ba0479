"""Decoder processes that do what a file's text says, as a library with a fault would. Run as a zygote's module."""

import ctypes
import os
import signal
import sys
import threading

from app.decoding.messages import (
    COST,
    COSTLY,
    DECODE,
    DRAW,
    FREE_BYTES,
    PICTURE,
    PIXELS,
    PNG_SIGNATURE,
    SIZE,
    SIZED_PIXELS,
    Order,
    Task,
)
from app.decoding.zygote import main


def answer(order: Order, task: Task) -> tuple[int, bytes]:
    """Grey pixels of an image of 5 x 3, or a picture of no pixels.

    The files `crash`, `loop`, `hang`, `eat`, `lie` and `cost BYTES` do what they say, and `draw crash` crashes
    where it is drawn. `twice BYTES` asks for memory twice, and `again BYTES` does not stop.
    """
    text = order.data.decode()
    if order.work == DRAW:
        text = text.removeprefix("draw ")
    word, _, number = text.partition(" ")
    if word == "cost" and int(number) > FREE_BYTES + order.granted:
        return COSTLY, COST.pack(int(number))
    if word == "again" or (word == "twice" and FREE_BYTES + order.granted < task.largest_cost):
        return COSTLY, COST.pack(task.largest_cost if order.granted else int(number))
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
    if order.work == DRAW:
        return PICTURE, PNG_SIGNATURE + order.heat.tobytes()
    size = task.preprocessing.size
    pixels = bytes([127]) * (size * size * task.preprocessing.channels)
    return (PIXELS, pixels) if order.work == DECODE else (SIZED_PIXELS, SIZE.pack(5, 3) + pixels)


if __name__ == "__main__":
    main(answer)
