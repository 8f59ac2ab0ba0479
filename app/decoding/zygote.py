"""The process that decoder processes are forked from, and the server's handle of it.

The process has imported what decoding needs, so a fork takes milliseconds. It never reads an image, so no image can
harm it. It ends all decoders and itself when the server ends, in whatever way.
"""

import gc
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from app.decoding.decoder import Answer, answer, serve
from app.decoding.messages import Task, parse_task

PID = struct.Struct("<q")
ROOT = Path(__file__).parents[2]
MAX_REQUEST_BYTES = 65_536
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # meant for the server, on which all of this depends


class Zygote:
    """Starts the process at the first `fork`, and again if it was lost. Any thread may call it.

    `module` is what the process runs; it calls `main`.
    """

    def __init__(self, module: str = "app.decoding.zygote") -> None:
        self._module = module
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the process, if it does not run. It needs some tenths of a second more until it can fork."""
        with self._lock:
            if self._control is None:
                self._start()

    def fork(self, task: Task) -> tuple[int, socket.socket]:
        """A new decoder's process id and the socket to it. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                return self._request(task.to_json(), [theirs.fileno()]), ours
            except OSError:
                ours.close()
                self._end()
                raise

    def reap(self, pid: int) -> None:
        """Kills a decoder and waits for its end. Its process id belongs to it until then."""
        with self._lock:
            try:
                os.kill(pid, signal.SIGKILL)
                self._request(PID.pack(pid), [])
            except OSError:  # the process is lost, and its decoders see the end of their sockets
                self._end()

    def close(self) -> None:
        """Ends the process and all decoders."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.wait()
        self._process = self._control = None

    def _request(self, message: bytes, files: list[int]) -> int:
        if self._control is None:
            self._start()
        assert self._control is not None
        try:
            socket.send_fds(self._control, [message], files)
            reply = self._control.recv(PID.size)
        except ConnectionError:
            reply = b""
        if not reply:
            raise ConnectionError("the process that decoders are forked from has ended")
        [number] = PID.unpack(reply)
        if number < 0:
            raise OSError(-number, os.strerror(-number))
        return int(number)

    def _start(self) -> None:
        # The process gets no settings: API keys are among them.
        environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("VGG_")}
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", self._module],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # the image libraries write their warnings there
                cwd=ROOT,
                env={**environment, "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,
            )


def main(answer: Answer) -> None:
    """Answers requests on standard input, a socket: with a file descriptor it forks, without it reaps.

    `answer` is what the decoders do with a file.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _import_plugins()
    gc.freeze()  # keeps memory shared with the decoders
    control = socket.socket(fileno=0)
    children = set[int]()
    while message := (received := socket.recv_fds(control, MAX_REQUEST_BYTES, 1))[0]:
        if files := received[1]:
            reply = _fork(control, files[0], parse_task(message), answer)
            children |= {reply} if reply > 0 else set()
        else:
            [reply] = PID.unpack(message)
            os.waitpid(reply, 0)
            children.discard(reply)
        control.send(PID.pack(reply))
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _fork(control: socket.socket, file: int, task: Task, answer: Answer) -> int:
    """The process id of the new decoder, or the negative error number."""
    try:
        pid = os.fork()
    except OSError as error:
        os.close(file)
        return -(error.errno or 1)
    if pid == 0:
        control.close()
        try:
            serve(socket.socket(fileno=file), task, answer)
        finally:
            os._exit(0)
    os.close(file)
    return pid


def _import_plugins() -> None:
    """Loads Pillow's formats, which it otherwise loads at the first image."""
    from PIL import Image, ImageCms  # noqa: F401

    Image.init()


if __name__ == "__main__":
    main(answer)
