"""The end of a process that does not end by itself."""

import logging
import threading

import pytest

from app.backstop import Backstop


def test_it_ends_the_process_and_names_the_place(caplog: pytest.LogCaptureFixture) -> None:
    """After its time the log says where the main thread is, and the process is ended. A second call changes nothing."""
    ended = threading.Event()
    backstop = Backstop(ended.set)
    backstop.arm(0.001)
    backstop.arm(3600.0)
    ended.wait()
    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "within 0.001 s" in line
    assert ".py:" in line


def test_an_orderly_end_disarms_it() -> None:
    """Its thread then ends without a word."""
    ended = threading.Event()
    backstop = Backstop(ended.set)
    backstop.arm(3600.0)
    [thread] = [thread for thread in threading.enumerate() if thread.name == "backstop"]
    backstop.disarm()
    thread.join()
    assert not ended.is_set()
