#!/usr/bin/env python3
"""generated answers: can a public tool make a client of what rpc.discover tells?

    generated.py SOCKET

openrpcclientgenerator (PyPI) makes a Python client of the daemon's document. Its
transport is HTTP, so it gets one for Unix sockets here; all else is as it was made.
"""

import asyncio
import importlib
import json
import logging
import pathlib
import sys
import tempfile

import openrpcclientgenerator
from jsonrpc2pyclient.rpcclient import AsyncRPCClient
from openrpc import OpenRPC


class Unix(AsyncRPCClient):
    """One connection for each request, one line each way."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    async def _send_and_get_json(self, request_json, request_id, **_):
        reader, writer = await asyncio.open_unix_connection(self.path, limit=1 << 24)
        writer.write(request_json.encode() + b"\n")
        line = await reader.readline()
        writer.close()
        return line


async def calls(client):
    algorithm = await client.get_default_algorithm()
    assert (algorithm.algo_id, algorithm.algorithm) == (12, "sha384"), algorithm
    count = (await client.get_measurement_count()).count
    for index in range(count):
        m = await client.get_cc_measurement(index, algorithm.algo_id)
        assert (m.index, len(m.hash)) == (index, 96), m
    for call in (client.get_cc_measurement(4, 12), client.extend_measurement("two words", "o", "c")):
        try:
            await call
        except Exception as refused:
            assert "must be" in str(refused), refused
        else:
            raise AssertionError("a parameter out of its bounds was taken")


def main(path):
    logging.disable()  # the library logs the refusals
    discover = {"jsonrpc": "2.0", "id": 1, "method": "rpc.discover", "params": {}}
    document = json.loads(asyncio.run(Unix(path)._send_and_get_json(json.dumps(discover), 1)))["result"]
    with tempfile.TemporaryDirectory() as made:
        name = openrpcclientgenerator.generate(
            OpenRPC(**document), openrpcclientgenerator.Language.PYTHON, "http://localhost/", pathlib.Path(made)
        )
        sys.path.insert(0, f"{made}/python/{name}")
        generated = importlib.import_module(f"{name.replace('-', '_')}.client")
        client = generated.CimadClient({})
        client.transport = Unix(path)
        asyncio.run(calls(client))
        methods = [n for n in vars(generated.CimadClient) if not n.startswith("_")]
    assert len(methods) == len(document["methods"]) > 8, methods
    print(f"generated: a client with {len(methods)} methods asks the daemon")


if __name__ == "__main__":
    main(sys.argv[1])
