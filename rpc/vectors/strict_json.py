"""strict_json answers: is this JSON spelled as cima-evidence(7) allows?

Strings and numbers as RFC 8785 writes them, no member twice or in two cases;
only white space and the order of members are free.
"""

import json
import re


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
    if isinstance(value, float):
        raise Malformed("a number that is no integer: not met in these vectors")
    return json.dumps(value, ensure_ascii=False)


class Parser:
    def __init__(self, text):
        self.text, self.at = text, 0

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
        if depth > 64:
            raise Malformed("nested too deep")
        if self.take("{"):
            return self.members(depth)
        if self.take("["):
            return self.elements(depth)
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
            if not isinstance(key, str) or key.lower() in (k.lower() for k in result):
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
