"""wire answers: what do a request and its reply look like?

JSON-RPC 2.0, one object per line (cima-api(7)). Nothing here reads or writes.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Tuple

from .errors import Code, MalformedError, ProtocolError, RPCError

DEFAULT_SOCKET = "/run/cima/cima.sock"
SOCKET_ENV = "CIMA_SOCKET"

MAX_REPLY = (16 << 20) + 4096
"""Bytes of a reply: the largest bundle of evidence, and an envelope."""


def socket_path(path: Optional[str]) -> str:
    """Where the daemon is: ``path``, else $CIMA_SOCKET, else the default."""
    return path or os.environ.get(SOCKET_ENV) or DEFAULT_SOCKET


def request_line(number: int, method: str, params: Optional[Mapping[str, Any]]) -> bytes:
    """A request as it is sent, its newline included. Bytes in ``params``
    become base64, members that are None are left out."""
    sent = {
        key: base64.b64encode(value).decode() if isinstance(value, (bytes, bytearray)) else value
        for key, value in (params or {}).items()
        if value is not None
    }
    request = {"jsonrpc": "2.0", "id": number, "method": method, "params": sent}
    text = json.dumps(request, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode() + b"\n"


def quote_params(nonce: bytes, user_data: Optional[bytes], shared: bool) -> Dict[str, Any]:
    """The parameters of what ends in a quote."""
    return {"nonce": nonce, "user_data": user_data, "shared": True if shared else None}


class Reply:
    """A result, parsed and as it came."""

    def __init__(self, value: Any, text: str) -> None:
        self.value = value
        self.text = text


class ToConnection(RPCError):
    """An answer to the connection or to a line, not to the request: the daemon
    closes it then."""


class TurnedAway(ToConnection):
    """A connection that was not taken: the request was not read."""


def ends_connection(error: BaseException) -> bool:
    """Whether no other request can follow an answer that was this error."""
    if isinstance(error, RPCError):
        return isinstance(error, ToConnection) or error.code == Code.SHUTTING_DOWN
    return True


def read_reply(line: bytes, number: int) -> Reply:
    """The result in a line. Raises RPCError where the daemon gave an error."""
    try:
        text = line.decode()
        parts = members(text)
    except (ValueError, RecursionError) as e:
        raise ProtocolError(f"the daemon's reply: {e}") from None
    if parts.get("jsonrpc", ("", None))[1] != "2.0" or ("result" in parts) == ("error" in parts):
        raise ProtocolError("the daemon's reply is no JSON-RPC response")
    ours = parts.get("id", ("", None))[0] == str(number)
    if "error" in parts:
        error = _error(parts["error"][1])
        if ours:
            raise error
        kind = TurnedAway if error.code == Code.RATE_LIMITED else ToConnection
        raise kind(error.code, error.message, error.data)
    if not ours:
        raise ProtocolError(f"the daemon's reply is not to request {number}")
    raw, value = parts["result"]
    return Reply(value, raw)


def _error(value: Any) -> RPCError:
    if not isinstance(value, dict):
        raise ProtocolError("the daemon's error is no object")
    more = value.get("data")
    if not isinstance(more, (dict, type(None))):
        raise ProtocolError("the data of the daemon's error are no object")
    return RPCError(integer(value, "code"), string(value, "message"), more)


# JSON, read so that an object has no member twice.


def _no_twice(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        raise ValueError("a member stands there twice")
    return seen


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_no_twice, parse_constant=_no_constant)
_SPACE = " \t\r\n"


def members(text: str) -> Dict[str, Tuple[str, Any]]:
    """The members of the JSON object ``text``, each as its very characters and
    as a value. Raises ValueError where it is none."""
    found: Dict[str, Tuple[str, Any]] = {}
    at = _expect(text, 0, "{")
    if _peek(text, at) == "}":
        at += 1
    else:
        while True:
            key, at = _decoder.raw_decode(text, at)
            if not isinstance(key, str) or key in found:
                raise ValueError(f"member {key!r} is no name, or stands there twice")
            start = _expect(text, at, ":")
            value, at = _decoder.raw_decode(text, start)
            found[key] = (text[start:at], value)
            at = _skip(text, at)
            if _peek(text, at) == "}":
                at += 1
                break
            at = _expect(text, at, ",")
    if _skip(text, at) != len(text):
        raise ValueError("something stands behind the object")
    return found


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _peek(text: str, at: int) -> str:
    return text[at : at + 1]


def _expect(text: str, at: int, sign: str) -> int:
    at = _skip(text, at)
    if _peek(text, at) != sign:
        raise ValueError(f"{sign!r} is missing at character {at}")
    return _skip(text, at + 1)


# Members of a result: what is missing or of another kind is a ProtocolError.
# Members that this version doesn't know are left alone.


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def integer(of: Any, name: str) -> int:
    """A member that is a whole number."""
    value = member(of, name)
    if not _is_int(value):
        raise ProtocolError(f"{name} is no integer")
    return int(value)


def string(of: Any, name: str, default: Optional[str] = None) -> str:
    """A member that is text."""
    value = member(of, name, default)
    if not isinstance(value, str):
        raise ProtocolError(f"{name} is no string")
    return value


def data(of: Any, name: str) -> bytes:
    """A member in base64."""
    try:
        return standard_base64(string(of, name))
    except MalformedError as e:
        raise ProtocolError(f"{name}: {e}") from None


def digest(of: Any, name: str) -> bytes:
    """A member in lower-case hex."""
    text = string(of, name)
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if not value or value.hex() != text:
        raise ProtocolError(f"{name} is no digest in lower-case hex")
    return value


def optional_digest(of: Any, name: str) -> Optional[bytes]:
    """A member in lower-case hex, None where it is absent."""
    return digest(of, name) if name in mapping(of) else None


def sequence(of: Any, name: str) -> List[Any]:
    """A member that is an array."""
    value = member(of, name)
    if not isinstance(value, list):
        raise ProtocolError(f"{name} is no array")
    return value


def mapping(value: Any) -> Dict[str, Any]:
    """A value that is an object."""
    if not isinstance(value, dict):
        raise ProtocolError("an object is missing")
    return value


def member(of: Any, name: str, default: Any = None) -> Any:
    """A member that must be there."""
    value = mapping(of).get(name, default)
    if value is None:
        raise ProtocolError(f"{name} is missing")
    return value


def standard_base64(text: str) -> bytes:
    """Base64 in its one standard spelling (RFC 4648, section 4), else MalformedError."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if base64.b64encode(value).decode() != text:
        raise MalformedError("not in standard base64")
    return value
