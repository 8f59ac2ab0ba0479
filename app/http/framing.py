"""What the head of a request must be: the rules of RFC 9112 that the parser (llhttp) does not check.

Owns them as functions of bytes. Each raises a ServiceError whose detail names the fault.
"""

import re

from app.errors import BadRequest, MethodNotAllowed

Headers = list[tuple[bytes, bytes]]  # names in lower case

NOT_HTTP = "The request is not valid HTTP/1.1: {}."
REQUEST_LINE = re.compile(rb"[A-Z-]+ [!-\"$-~]+ HTTP/(\d\.\d)\r\n")  # no '#': a fragment is never sent (3.2)
# The parser would end the message at the head that asks for an upgrade, and take the body for another protocol. A line
# with bytes that no value may have is left for the parser to refuse.
UPGRADE = re.compile(rb"^upgrade:[\t\x20-\x7e\x80-\xff]*\r\n", re.IGNORECASE | re.MULTILINE)
ABSOLUTE_FORM = re.compile(rb"https?://[^/?]*", re.IGNORECASE)
HOST = re.compile(rb"(?:\[[0-9A-Za-z:.%]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::\d*)?")


def check_request_line(line: bytes) -> None:
    """Raises BadRequest unless it is a method, a target and HTTP/1.0 or 1.1, with one space between them (3)."""
    found = REQUEST_LINE.fullmatch(line)
    if found is None:
        raise BadRequest(NOT_HTTP.format("the request line is not METHOD TARGET HTTP/1.1"))
    if found[1] not in (b"1.0", b"1.1"):
        raise BadRequest(NOT_HTTP.format("the version is not 1.0 or 1.1"))


def drop_upgrade(lines: bytes) -> bytes:
    """The whole lines of a head without `Upgrade`, which a server may ignore (RFC 9110, 7.8)."""
    return UPGRADE.sub(b"", lines)


def read_target(method: bytes, target: bytes) -> bytes:
    """The target as a path and a query (3.2). Raises BadRequest, or MethodNotAllowed for `OPTIONS *`."""
    if method == b"CONNECT":
        raise BadRequest(NOT_HTTP.format("CONNECT is not supported"))
    if target == b"*":
        if method == b"OPTIONS":
            raise MethodNotAllowed("* does not answer OPTIONS.", {"Allow": "GET, HEAD, POST"})
        raise BadRequest(NOT_HTTP.format("only OPTIONS may have the target *"))
    if not target.startswith(b"/"):
        found = ABSOLUTE_FORM.match(target)
        if found is None:
            raise BadRequest(NOT_HTTP.format("the target is neither a path nor an http URL"))
        target = target[found.end() :]
        return target if target.startswith(b"/") else b"/" + target
    return target


def check_headers(headers: Headers, version: str) -> int | None:
    """The length of the body in bytes, or None if it is chunked. Raises BadRequest.

    A request has one Host (3.2; none is allowed in HTTP/1.0), and its body one length (6.3): two parties that see
    different lengths see different requests.
    """
    hosts, encodings, lengths = [], [], []
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            encodings.append(value)
        elif name == b"content-length":
            lengths.append(value)
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise BadRequest(NOT_HTTP.format(f"it has {len(hosts)} Host headers, but must have one"))
    if hosts and not HOST.fullmatch(hosts[0]):
        raise BadRequest(NOT_HTTP.format("Host is not a name or an address, with or without a port"))
    if encodings:
        if version == "1.0" or lengths or len(encodings) > 1 or encodings[0].lower() != b"chunked":
            raise BadRequest(
                NOT_HTTP.format("Transfer-Encoding must be chunked, once, without Content-Length and not in HTTP/1.0")
            )
        return None
    if len(lengths) > 1:
        raise BadRequest(NOT_HTTP.format("it has several Content-Length headers"))
    return int(lengths[0]) if lengths else 0
