"""canonical answers: how does RFC 8785 write this JSON?"""

from __future__ import annotations

import json
import math
import re
from typing import Any


def encode(value: Any) -> bytes:
    """The canonical form of parsed JSON. Raises ValueError for what has none."""
    return _text(value).encode("utf-8")


def read(text: str) -> Any:
    """The value of JSON whose strings and numbers are spelled as the RFC spells them, in which no
    object has a member twice or in two cases, and which nests at most 32 deep. White space and
    the order of members are free. Raises ValueError for all else."""
    try:
        ordered = json.loads(text, object_pairs_hook=_Members, parse_constant=_refuse)
        value = _value(ordered, 0)
        if _in_order(ordered) != _without_space(text):
            raise ValueError("a string or a number must be spelled as RFC 8785 does")
    except (RecursionError, UnicodeEncodeError, OverflowError):
        raise ValueError("must be JSON that nests at most 32 deep and is Unicode") from None
    return value


class _Members(list):  # type: ignore[type-arg]
    """The members of an object, in their order."""


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _value(of: Any, depth: int) -> Any:
    if isinstance(of, str):
        of.encode("utf-8")  # half a pair can't be
    if not isinstance(of, list):
        return of
    if depth >= _DEPTH:
        raise ValueError(f"must nest at most {_DEPTH} deep")
    if not isinstance(of, _Members):
        return [_value(element, depth + 1) for element in of]
    if len({fold(name) for name, _ in of}) != len(of):
        raise ValueError("a member must not occur twice, or in two cases")
    return {name: _value(value, depth + 1) for name, value in of}


_DEPTH = 32


def fold(name: str) -> str:
    """Equal for names that differ in case alone, letter by letter (Unicode's simple folding)."""
    return "".join(next((c for c in (letter.casefold(), letter.lower()) if len(c) == 1), letter) for letter in name)


def _in_order(value: Any) -> str:
    if isinstance(value, _Members):
        return "{" + ",".join(f"{_string(name)}:{_in_order(of)}" for name, of in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_in_order, value)) + "]"
    return _text(value)


def _without_space(text: str) -> str:
    """JSON without the white space between its tokens."""
    return _TOKENS.sub(lambda found: found[1] or "", text)


_TOKENS = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\r\n]+', re.DOTALL)


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
