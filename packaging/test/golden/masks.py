"""JSON in which values that differ from run to run are replaced, otherwise byte for byte.

A text is taken apart into its tokens and put together again: order, white space and
spelling of all that isn't replaced stay as they came.
"""

import json
import re

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|-?[0-9][0-9.eE+-]*|true|false|null|\s+')


def masked(text, replace):
    """replace(path, value) returns None to keep a value, or its replacement.

    path is the names and "#" (for an element of an array) that lead to it.
    """
    json.loads(text)  # it must be JSON
    out, stack, name, key = [], [], None, False
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        token, at = match.group(), match.end()
        first = token[0]
        if first in "{[":
            stack.append(("#" if stack and stack[-1][1] == "[" else name, first))
            key = first == "{"
        elif first in "}]":
            stack.pop()
            key = False
        elif first == ",":
            key = stack[-1][1] == "{"
        elif first == ":":
            key = False
        elif first.isspace():
            pass
        elif key:
            name = json.loads(token)
        else:
            inner = "#" if stack and stack[-1][1] == "[" else name
            path = ".".join([str(s[0]) for s in stack[1:]] + [str(inner)] if stack else [])
            value = replace(path, json.loads(token))
            if value is not None:
                token = json.dumps(value, ensure_ascii=False)
        out.append(token)
    return "".join(out)


def rules(*pairs):
    """A replace function of pairs of a regular expression for the path and a token."""
    compiled = [(re.compile(r"(?:^|.*\.)(?:" + p + ")$"), t) for p, t in pairs]

    def replace(path, value):
        for pattern, token in compiled:
            if pattern.match(path):
                return token
        return None

    return replace


TEXTS = {"message", "detail", "reason", "hint", "what", "summary", "description", "disagreement", "problem", "why", "text"}
MASKED = {"verifier", "time"}  # the program's version, and when it ran


def split_texts(text, names=TEXTS):
    """The text without its messages for people, and those messages."""
    said = []

    def replace(path, value):
        if path.rsplit(".", 1)[-1] in names and isinstance(value, str):
            said.append(value)
            return "…"
        if path.rsplit(".", 1)[-1] in MASKED and isinstance(value, str):
            return "…"
        return None

    return masked(text, replace), said


def jcs(value):
    """RFC 8785, for values whose numbers are all integers."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda n: n.encode("utf-16-be"))
        return "{" + ",".join(jcs(n) + ":" + jcs(value[n]) for n in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(jcs(v) for v in value) + "]"
    if isinstance(value, float):
        raise ValueError("a number must be an integer")
    return json.dumps(value, ensure_ascii=False)
