"""The command `python -m app`, also installed as `vgg-serve`.

Owns turning faults into one line and an exit status. Knows nothing of serving. What it needs is
imported when it runs: a signal that comes during the imports must find a handler.
"""

import gc
import os
import resource
import signal
import sys

# OpenMP's threads (libgomp's) by default spin while they wait for each other, and keep spinning where another process
# has the core of one of them: a layer then takes as long as the kernel's time slices. Not at all, and each layer costs
# system calls, which a small image feels. So they spin for some microseconds. Read when torch is loaded.
WAITING = ("GOMP_SPINCOUNT", "1000")

# Whoever closes an idle connection may cross with a request that is on its way, which is then lost. Balancers, which
# can take it elsewhere, must therefore be first: of the usual ones the longest waits for 600 seconds.
KEEP_ALIVE_SECONDS = 620


def main(arguments: list[str] | None = None) -> int:
    """Serves until a signal or a fault; 0 after a drain, 1 where no model could be loaded, 2 for bad settings."""
    os.environ.setdefault(*WAITING)
    import uvicorn

    from app.logs import configure
    from app.main import create_app
    from app.server import Server
    from app.service import Service
    from app.settings import read_settings

    try:
        settings = read_settings(sys.argv[1:] if arguments is None else arguments)
        app = create_app(settings)
    except ValueError as error:
        return _fail(error, 2)
    configure(settings.log_format)
    allow_many_connections()
    config = uvicorn.Config(
        app,
        settings.host,
        settings.port,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,  # what is left after the drain's own timeout
    )
    service: Service = app.state.service
    try:
        with service.metrics.served_on(settings.host, settings.metrics_port):
            Server(config, service).run()
    except OSError as error:
        return _fail(f"metrics_port is {settings.metrics_port}: {error}", 1)
    return 0 if service.failure is None else _fail(service.failure, 1)


def allow_many_connections() -> None:
    """Every connection is a file, and the usual soft limit of 1,024 is soon reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run() -> None:
    """Ends the process at once: threads that still load or decode must not hold up a shutdown."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # until the server takes over; nothing was accepted yet
    gc.disable()  # importing torch takes longer with it; the server turns it on when the model is loaded
    try:
        status = main()
    except SystemExit as end:  # argparse's and uvicorn's
        status = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _fail(fault: object, status: int) -> int:
    print(f"error: {fault}", file=sys.stderr)  # noqa: T201
    return status


if __name__ == "__main__":
    run()
