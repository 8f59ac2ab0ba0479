"""The last resort of a shutdown that does not come to its end."""

import logging
import sys
import threading
from collections.abc import Callable

log = logging.getLogger("vggserve.backstop")


class Backstop:
    """Calls `end` if the process still runs some seconds after `arm`, for example because the event loop hangs.

    It waits on a thread of its own, which starts at once: a signal handler must not start threads.
    """

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end
        self._seconds = 0.0
        self._armed, self._disarmed = threading.Event(), threading.Event()
        threading.Thread(target=self._wait, name="backstop", daemon=True).start()

    def arm(self, seconds: float) -> None:
        """Gives the process that many seconds from now on. Only the first call counts. May run in a signal handler."""
        if not self._seconds:
            self._seconds = seconds
            self._armed.set()

    def disarm(self) -> None:
        """Ends the thread without calling `end`."""
        self._disarmed.set()
        self._armed.set()

    def _wait(self) -> None:
        self._armed.wait()
        if self._disarmed.wait(self._seconds):
            return
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        place = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "its end"
        log.critical("the event loop did not end within %g s; the main thread is at %s", self._seconds, place)
        self._end()
