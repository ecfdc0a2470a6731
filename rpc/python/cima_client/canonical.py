"""canonical answers: how does RFC 8785 write this JSON?"""

from __future__ import annotations

import json
import math
from typing import Any


def encode(value: Any) -> bytes:
    """The canonical form of parsed JSON. Raises ValueError for what has none."""
    return _text(value).encode("utf-8")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        # By UTF-16 code units (section 3.2.3).
        keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_string(key)}:{_text(value[key])}" for key in keys) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_text(element) for element in value) + "]"
    if isinstance(value, str):
        return _string(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return number(float(value))


def _string(value: str) -> str:
    # json escapes what the RFC has escaped, in the RFC's way, but for DEL:
    # with ensure_ascii off that stays as it is in both.
    return json.dumps(value, ensure_ascii=False)


def number(value: float) -> str:
    """As ECMAScript writes a double (section 3.2.2.3)."""
    if not math.isfinite(value):
        raise ValueError("a number that JSON can't write")
    if value == 0:
        return "0"
    sign, digits, exponent = _shortest(value)
    point = len(digits) + exponent  # of the decimal point, from the first digit
    if 0 < point <= 21:
        text = digits.ljust(point, "0")
        text = text[:point] + ("." + text[point:] if len(text) > point else "")
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        fraction = "." + digits[1:] if len(digits) > 1 else ""
        text = f"{digits[0]}{fraction}e{point - 1:+d}"
    return sign + text


def _shortest(value: float) -> "tuple[str, str, int]":
    """Sign, the fewest digits that give the value back, and their exponent."""
    mantissa, _, exponent = repr(value).partition("e")
    sign, mantissa = ("-", mantissa[1:]) if mantissa[0] == "-" else ("", mantissa)
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    scale = int(exponent or 0) - len(fraction)
    stripped = digits.rstrip("0")
    return sign, stripped, scale + len(digits) - len(stripped)
