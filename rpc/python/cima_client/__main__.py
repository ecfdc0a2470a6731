"""Prints evidence about the caller, or the caller's identity as the daemon sees it.

    python -m cima_client --nonce HEX >evidence.json
    python -m cima_client --whoami
"""

from __future__ import annotations

import argparse
import secrets
import sys
from typing import List, Optional

from . import CimaError, Client


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cima_client", description="print evidence about the caller")
    parser.add_argument("--socket", metavar="PATH", help="of the daemon; $CIMA_SOCKET, else /run/cima/cima.sock")
    parser.add_argument("--nonce", metavar="HEX", type=bytes.fromhex, help="the relying party's, 8 to 64 bytes")
    parser.add_argument("--user-data", metavar="HEX", type=bytes.fromhex, help="bound into the quote")
    parser.add_argument("--whoami", action="store_true", help="print who the daemon sees instead")
    given = parser.parse_args(arguments)
    try:
        with Client(given.socket) as client:
            if given.whoami:
                print(client.call("WhoAmI").text)
                return 0
            nonce = given.nonce
            if nonce is None:
                nonce = secrets.token_bytes(32)
                print("cima_client: no --nonce: a random one was drawn, which proves no freshness", file=sys.stderr)
            print(client.get_evidence(nonce, given.user_data).raw)
            return 0
    except (CimaError, TimeoutError) as error:
        print(f"cima_client: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
