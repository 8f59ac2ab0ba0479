"""The thread that computes heat maps.

Owns the copy of the network that gradients pass, and how much of the processor the thread takes.
"""

import logging
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import torch
from torch import nn

from models.grad_cam import Blocks, Explanation, explain, split_into_blocks
from models.inference.unpack import copy_unpacked
from models.normalise import normalise
from models.preprocess import Pixels, Preprocessing

log = logging.getLogger("vggserve.explain")

# Of the thread. At a much lower priority the thread could lose its core to a prediction while it holds Python's global
# lock, for which the event loop would wait then.
NICENESS = 5


class HeatMapThread:
    """Explains one image after another, on one core, at a lower priority than predictions.

    The network is a float32 copy of `model` on the CPU, made for the first image: most servers explain nothing. It is a
    copy also where `model` is on a GPU, so that an explanation neither takes the GPU's time nor its memory.
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, niceness: int = NICENESS) -> None:
        self._model, self._preprocessing = model, preprocessing
        self._network: Blocks | None = None
        # No bound method: the model would be in a reference cycle, and its memory stay after a reload.
        self._executor = ThreadPoolExecutor(1, "explain", initializer=_give_way, initargs=(niceness,))

    def start(self) -> None:
        """Starts the thread, within a millisecond. Must be called before the threads of the model start."""
        self._executor.submit(threading.get_native_id).result()

    def close(self) -> None:
        """Lets the thread end after its image. Images that wait are cancelled."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def submit(self, pixels: Pixels, index: int | None) -> "Future[tuple[Explanation, float]]":
        """The explanation of (S, S, C) uint8 pixels for the label `index`, or the top one, and the seconds it took."""
        return self._executor.submit(self._explain, pixels, index)

    def _explain(self, pixels: Pixels, index: int | None) -> tuple[Explanation, float]:
        started = time.monotonic()
        if self._network is None:
            self._network = split_into_blocks(copy_unpacked(self._model))
        batch = torch.from_numpy(pixels.copy())[None]
        explanation = explain(self._network, normalise(batch, self._preprocessing), index)
        return explanation, time.monotonic() - started


def _give_way(niceness: int) -> None:
    """Limits the calling thread to one core and lowers its priority.

    torch limits the calling thread and those that have not yet used torch. So another thread sets the old number
    again, which then counts for all but this one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    restorer = threading.Thread(target=torch.set_num_threads, args=(threads,))
    restorer.start()
    restorer.join()
    with suppress(OSError):  # on Linux a thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
