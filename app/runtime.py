"""How the process uses the machine: signals, garbage collection, OpenMP's threads, open files, freed memory."""

import ctypes
import gc
import os
import resource
import signal
import sys
from contextlib import suppress

# Iterations that a thread of libgomp, GNU's OpenMP, spins while it waits for the other threads: some microseconds. The
# default is 300,000 (libgomp manual, GOMP_SPINCOUNT): while another process has the core of one thread, the others then
# keep their cores busy for milliseconds at each layer. Without any spinning each layer costs system calls, which is
# slow for small images.
SPIN_COUNT = 1000


def open_standard_streams() -> None:
    """Opens standard input, output and error on the null device where they are closed.

    The next files and sockets would otherwise get their numbers, and what libraries print would be sent to a client.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number, which is this one
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "w", encoding="utf-8"))


def defer_hangup() -> None:
    """Keeps a SIGHUP until `accept_hangup`. Without a handler it would end the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def accept_hangup() -> None:
    """Delivers a SIGHUP that has come meanwhile, and all later ones."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def limit_openmp_spinning() -> None:
    """Sets GOMP_SPINCOUNT, unless it is set already. libgomp reads it when torch is imported."""
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))


def raise_open_file_limit() -> None:
    """Raises the soft limit of open files to the hard one.

    Every connection is an open file. The usual soft limit of 1,024 would limit the number of connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def open_file_limit() -> int | None:
    """The most files that the process may have open, or None without a limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def pause_garbage_collection() -> None:
    """Turns garbage collection off. With it, the imports and the load of the model take longer."""
    gc.disable()


def resume_garbage_collection() -> None:
    """Turns garbage collection on again, if it is off, and excludes all objects that exist by now.

    They stay as long as the process does. Each full collection would otherwise go through all of them, and would stop
    every thread meanwhile.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def release_freed_memory() -> None:
    """Returns freed memory to the system by malloc_trim(3), where the C library is glibc.

    glibc keeps freed memory that lies between memory in use. After a load that is as much as a small checkpoint.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
