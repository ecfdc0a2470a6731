"""strict_json answers: is this JSON spelled as cima-evidence(7) allows?

Strings and numbers as RFC 8785 writes them, no member twice or in two cases;
only white space and the order of members are free.
"""

import json
import math
import re
from decimal import Decimal


class Malformed(Exception):
    """It is no bundle."""


STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\bfnrt]|u[0-9a-fA-F]{4}))*"')
NUMBER = re.compile(r"-?[0-9.eE+-]+")


def canonical(value):
    """RFC 8785."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda k: k.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(canonical(k) + ":" + canonical(value[k]) for k in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number(float(value))
    return json.dumps(value, ensure_ascii=False)


def number(value):
    """As ECMAScript writes a double: the fewest digits that give it back."""
    if not math.isfinite(value):
        raise Malformed("a number that no double holds")
    if value == 0:
        return "0"
    digits, exponent = Decimal(repr(abs(value))).normalize().as_tuple()[1:]
    digits, sign = "".join(map(str, digits)), "-" if value < 0 else ""
    point = len(digits) + exponent  # of the decimal point, from the first digit
    if 0 < point <= 21:
        text = digits[:point].ljust(point, "0") + ("." + digits[point:] if len(digits) > point else "")
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        text = digits[0] + ("." + digits[1:] if len(digits) > 1 else "") + f"e{point - 1:+d}"
    return sign + text


def fold(name):
    """Equal for names that differ in case alone, letter by letter (Unicode's simple folding)."""
    return "".join(next((c for c in (letter.casefold(), letter.lower()) if len(c) == 1), letter) for letter in name)


class Parser:
    """Reads a text. In events names may differ in case alone, and values nest deeper: engines
    and users choose them."""

    def __init__(self, text, any_names=False):
        self.text, self.at, self.any_names = text, 0, any_names
        self.depth = 128 if any_names else 32

    def whole(self):
        value = self.value(0)
        self.space()
        if self.at != len(self.text):
            raise Malformed("something stands behind the object")
        return value

    def space(self):
        while self.text[self.at : self.at + 1] in (" ", "\t", "\r", "\n"):
            self.at += 1

    def take(self, sign):
        self.space()
        if self.text[self.at : self.at + 1] != sign:
            return False
        self.at += 1
        return True

    def need(self, sign):
        if not self.take(sign):
            raise Malformed(f"{sign!r} is missing at character {self.at}")

    def value(self, depth):
        self.space()
        for sign, inner in (("{", self.members), ("[", self.elements)):
            if self.take(sign):
                if depth >= self.depth:
                    raise Malformed("nested too deep")
                return inner(depth)
        for word, value in (("true", True), ("false", False), ("null", None)):
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return value
        return self.scalar()

    def scalar(self):
        found = STRING.match(self.text, self.at) or NUMBER.match(self.text, self.at)
        try:
            value = json.loads(found.group())
        except (AttributeError, ValueError):
            raise Malformed(f"no value at character {self.at}") from None
        if canonical(value) != found.group():
            raise Malformed(f"{found.group()[:32]} is not spelled as RFC 8785 spells it")
        self.at = found.end()
        return value

    def members(self, depth):
        result = {}
        while not (not result and self.take("}")):
            self.space()
            key = self.scalar()
            if not isinstance(key, str) or key in result or not self.any_names and fold(key) in map(fold, result):
                raise Malformed(f"member {key!r} is no name, or stands there twice")
            self.need(":")
            result[key] = self.value(depth + 1)
            if self.take("}"):
                break
            self.need(",")
        return result

    def elements(self, depth):
        result = []
        while not (not result and self.take("]")):
            result.append(self.value(depth + 1))
            if self.take("]"):
                break
            self.need(",")
        return result
