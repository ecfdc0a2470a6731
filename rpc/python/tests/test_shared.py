"""Places in the tree of a shared quote."""

from __future__ import annotations

import hashlib
import unittest
from typing import List

from cima_client import MalformedError, ReplayError, Shared
from cima_client.evidence import parse
from cima_client.shared import MAX_SIZE

from stage import VECTORS


def tree(leaves: List[bytes]) -> bytes:
    """RFC 6962, section 2.1, word by word: split at the largest power of two."""
    if len(leaves) == 1:
        return hashlib.sha384(b"\x00" + leaves[0]).digest()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha384(b"\x01" + tree(leaves[:k]) + tree(leaves[k:])).digest()


def path(m: int, leaves: List[bytes]) -> List[bytes]:
    """RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if m < k:
        return path(m, leaves[:k]) + [tree(leaves[k:])]
    return path(m - k, leaves[k:]) + [tree(leaves[:k])]


class SharedTest(unittest.TestCase):
    def test_places_in_all_trees(self) -> None:
        for size in [*range(1, 20), 33]:
            leaves = [hashlib.sha512(bytes([i])).digest() for i in range(size)]
            for i, own in enumerate(leaves):
                shared = Shared(size, i, tuple(path(i, leaves)))
                self.assertEqual(shared.root(own), tree(leaves))
                self.assertEqual(len(shared.report_data(own)), 64)
                self.assertNotEqual(shared.root(own[::-1]), tree(leaves))
                for wrong in (shared.path[:-1], (*shared.path, bytes(48))):
                    if wrong != shared.path:
                        with self.assertRaises(ReplayError):
                            Shared(size, i, wrong).root(own)
        with self.assertRaises(ReplayError):
            Shared(3, 3, ()).root(bytes(64))

    def test_bounds(self) -> None:
        text = (VECTORS / "bundles/host.json").read_text()
        digest = '"' + "ab" * 48 + '"'
        for shared in (
            '{"size":0,"index":0,"path":[]}',
            f'{{"size":{MAX_SIZE + 1},"index":0,"path":[]}}',
            '{"size":1,"index":-1,"path":[]}',
            '{"size":1,"index":4096,"path":[]}',
            '{"size":1,"index":0}',
            '{"size":1,"index":0,"path":[],"more":0}',
            '{"size":2,"index":0,"path":["ab"]}',
            f'{{"size":2,"index":0,"path":[{",".join([digest] * 13)}]}}',
            "[]",
            "null",
        ):
            with self.subTest(shared), self.assertRaises(MalformedError):
                parse(text.replace('"agent_signature"', f'"shared":{shared},"agent_signature"', 1))
        for shared in ('{"size":2,"index":0,"path":[]}', '{"size":1,"index":0,"path":[]}', '{"size":1,"index":1,"path":[]}'):
            self.assertNotEqual(parse(text.replace('"agent_signature"', f'"shared":{shared},"agent_signature"', 1)).differences(), [])


if __name__ == "__main__":
    unittest.main()
