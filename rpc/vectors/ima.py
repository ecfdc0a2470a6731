"""IMA's lines by cima-evidence(7), OS logs: what does each extend RTMR2 with?"""

import hashlib
import re

from strict_json import Malformed

TEMPLATES = {
    "ima-ng": "d-ng|n-ng",
    "ima-ngv2": "d-ngv2|n-ng",
    "ima-sig": "d-ng|n-ng|sig",
    "ima-sigv2": "d-ngv2|n-ng|sig",
    "ima-buf": "d-ng|n-ng|buf",
    "ima-modsig": "d-ng|n-ng|sig|d-modsig|modsig",
    "evm-sig": "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
    "ima-cgpath": "dep|cg-path|d-ng|n-ng",
    "ima-dep-cgn": "dep|cgn|d-ng|n-ng",
}
TEXT = ("n", "n-ng", "dep", "cg-path", "cgpath", "cgn", "xattrnames")
HASHES = {40: "sha1", 64: "sha256", 96: "sha384", 128: "sha512"}


def raw(text):
    return text.encode("utf-8", "surrogateescape")


def unhex(text):
    if not re.fullmatch("([0-9a-f]{2})*", text):
        raise Malformed("IMA: no lower-case hex")
    return bytes.fromhex(text)


def field(name, text):
    """The bytes of which a line shows the text."""
    if name in TEXT:
        return raw(text) + b"\0"
    if name in ("d-ng", "d-ngv2", "d-modsig"):
        if not text:
            return b""
        algorithm, colon, value = text.rpartition(":")
        if colon and not algorithm:
            raise Malformed("IMA: no algorithm before the colon")
        return raw(algorithm) + b":\0" + unhex(value)
    if name in ("iuid", "igid", "imode"):
        size = 2 if name == "imode" else 4
        if not re.fullmatch("0|[1-9][0-9]{0,9}", text) or int(text) >> 8 * size:
            raise Malformed("IMA: no decimal number")
        return int(text).to_bytes(size, "little")
    if name in ("d", "sig", "buf", "modsig", "evmsig", "xattrlengths", "xattrvalues"):
        return unhex(text)
    raise Malformed(f"IMA: field {name!a} is unknown")


def template_data(template, text):
    names = TEMPLATES.get(template, template).split("|")
    texts = text.split(" ", len(names) - 1)
    if len(texts) != len(names):
        raise Malformed("IMA: fields do not fit the template")
    data = b""
    for name, shown in zip(names, texts):
        value = field(name, shown)
        data += len(value).to_bytes(4, "little") + value
    return data


def line(text):
    """What one line extends RTMR2 with."""
    words = re.fullmatch("(?:10| 2) ([^ ]+) ([^ ]+) (.*)", text.decode("utf-8", "surrogateescape"), re.DOTALL)
    if not words or len(words[1]) not in HASHES:
        raise Malformed("IMA: no line of register 10 or 2")
    shown, data = unhex(words[1]), template_data(words[2], words[3])
    if not any(shown):
        return b"\xff" * 48  # a violation
    if hashlib.new(HASHES[len(words[1])], data).digest() != shown:
        raise Malformed("IMA: an entry is not what its template hash says")
    return hashlib.sha384(data).digest()
