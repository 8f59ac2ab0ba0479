"""Paths and origins as settings name them.

Owns their form. Each check returns its argument, as pydantic's validators do.
"""

import re

SEGMENT = r"/[A-Za-z0-9._~:@!$&'()*+,;=-]+"  # of a path, without escapes (RFC 3986, section 3.3)
PATH = re.compile(rf"({SEGMENT})*")
ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\\\s?#@,]+")  # as browsers send it (RFC 6454, section 6.2)


def check_path(path: str) -> str:
    """Raises ValueError unless `path` is empty or begins with a slash and does not end with one."""
    if not PATH.fullmatch(path):
        raise ValueError("must begin with / and not end with it, as in /models/digits")
    return path


def check_origin(origin: str) -> str:
    """Raises ValueError unless `origin` is an asterisk, or a scheme and a host with or without a port."""
    if not ORIGIN.fullmatch(origin):
        raise ValueError("must be * or SCHEME://HOST or SCHEME://HOST:PORT, without a path")
    return origin
