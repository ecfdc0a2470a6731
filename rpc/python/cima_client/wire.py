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
    """The daemon's socket: ``path``, else $CIMA_SOCKET, else the default."""
    return path or os.environ.get(SOCKET_ENV) or DEFAULT_SOCKET


def request_line(number: int, method: str, params: Optional[Mapping[str, Any]]) -> bytes:
    """The bytes of a request, with its newline. Bytes in ``params``
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
    """The parameters of the methods that make a quote."""
    return {"nonce": nonce, "user_data": user_data, "shared": True if shared else None}


class Reply:
    """A result, parsed and as it came."""

    def __init__(self, value: Any, text: str) -> None:
        self.value = value
        self.text = text


class ToConnection(RPCError):
    """An error about the connection or about a line, not about the request: the daemon
    closes the connection then."""


class TurnedAway(ToConnection):
    """The daemon refused the connection and did not read the request."""


def reply_number(line: bytes) -> int:
    """The number of the request that a line answers. Raises ToConnection for an error
    that is about none."""
    parts = _response(line)
    text, value = parts.get("id", ("", None))
    if _is_int(value):
        return int(value)
    if "error" not in parts:
        raise ProtocolError(f"the daemon's reply is to no request: id {text:.40}")
    error = _error(parts["error"][1])
    kind = TurnedAway if error.code == Code.RATE_LIMITED else ToConnection
    raise kind(error.code, error.message, error.data)


def read_reply(line: bytes, number: int) -> Reply:
    """The result in a line. Raises RPCError if the daemon returned an error."""
    parts = _response(line)
    if parts.get("id", ("", None))[0] != str(number):
        raise ProtocolError(f"the daemon's reply must be to request {number}")
    if "error" in parts:
        raise _error(parts["error"][1])
    raw, value = parts["result"]
    return Reply(value, raw)


def _response(line: bytes) -> Dict[str, Tuple[str, Any]]:
    try:
        text = line.decode()
        parts = members(text)
    except (ValueError, RecursionError) as e:
        raise ProtocolError(f"the daemon's reply: {e}") from None
    if parts.get("jsonrpc", ("", None))[1] != "2.0" or ("result" in parts) == ("error" in parts):
        raise ProtocolError("the daemon's reply must be a JSON-RPC response")
    return parts


def _error(value: Any) -> RPCError:
    if not isinstance(value, dict):
        raise ProtocolError("the daemon's error must be an object")
    more = value.get("data")
    if not isinstance(more, (dict, type(None))):
        raise ProtocolError("the data of the daemon's error must be an object")
    return RPCError(integer(value, "code"), string(value, "message"), more)


# JSON, read so that an object has no member twice.


def _no_twice(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        raise ValueError("a member must not occur twice")
    return seen


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_no_twice, parse_constant=_no_constant)
_SPACE = " \t\r\n"


def members(text: str) -> Dict[str, Tuple[str, Any]]:
    """The members of the JSON object ``text``, each as its exact characters and
    as a value. Raises ValueError if it is not an object."""
    found: Dict[str, Tuple[str, Any]] = {}
    at = _expect(text, 0, "{")
    if _peek(text, at) == "}":
        at += 1
    else:
        while True:
            key, at = _decoder.raw_decode(text, at)
            if not isinstance(key, str) or key in found:
                raise ValueError(f"member {key!r} must be a name and must not occur twice")
            start = _expect(text, at, ":")
            value, at = _decoder.raw_decode(text, start)
            found[key] = (text[start:at], value)
            at = _skip(text, at)
            if _peek(text, at) == "}":
                at += 1
                break
            at = _expect(text, at, ",")
    if _skip(text, at) != len(text):
        raise ValueError("nothing may follow the object")
    return found


def elements(text: str) -> List[str]:
    """The elements of the JSON array ``text``, each as its exact characters. Raises
    ValueError if it is not an array."""
    found: List[str] = []
    at = _expect(text, 0, "[")
    if _peek(text, at) == "]":
        at += 1
    else:
        while True:
            _, end = _decoder.raw_decode(text, at)
            found.append(text[at:end])
            at = _skip(text, end)
            if _peek(text, at) == "]":
                at += 1
                break
            at = _expect(text, at, ",")
    if _skip(text, at) != len(text):
        raise ValueError("nothing may follow the array")
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
        raise ValueError(f"character {at} must be {sign!r}")
    return _skip(text, at + 1)


# A missing member of a result, or one of another kind, is a ProtocolError.
# Members that this version doesn't know are ignored.


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def integer(of: Any, name: str) -> int:
    """A member that is a whole number."""
    value = member(of, name)
    if not _is_int(value):
        raise ProtocolError(f"{name} must be an integer")
    return int(value)


def string(of: Any, name: str, default: Optional[str] = None) -> str:
    """A member that is text."""
    value = member(of, name, default)
    if not isinstance(value, str):
        raise ProtocolError(f"{name} must be a string")
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
        raise ProtocolError(f"{name} must be a digest in lower-case hex")
    return value


def optional_digest(of: Any, name: str) -> Optional[bytes]:
    """A member in lower-case hex, None where it is absent."""
    return digest(of, name) if name in mapping(of) else None


def sequence(of: Any, name: str) -> List[Any]:
    """A member that is an array."""
    value = member(of, name)
    if not isinstance(value, list):
        raise ProtocolError(f"{name} must be an array")
    return value


def mapping(value: Any) -> Dict[str, Any]:
    """A value that is an object."""
    if not isinstance(value, dict):
        raise ProtocolError("the value must be an object")
    return value


def member(of: Any, name: str, default: Any = None) -> Any:
    """A required member."""
    value = mapping(of).get(name, default)
    if value is None:
        raise ProtocolError(f"{name} must be there")
    return value


def standard_base64(text: str) -> bytes:
    """Base64 in its one standard spelling (RFC 4648, section 4), otherwise MalformedError."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if base64.b64encode(value).decode() != text:
        raise MalformedError("must be in standard base64")
    return value
