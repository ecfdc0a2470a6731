"""A program for CIMA 0.5's SDK, of which only the import was changed.

In a container it checks what CIMA 0.5's own end-to-end test did: the event log
replays to every register, the report is not empty, nor are registers 0, 1, 3.
"""

from __future__ import annotations

import base64
import logging

from cima_client.compat import CimaSdk  # was: from cima import CimaSdk

logging.basicConfig(level=logging.INFO, format="%(message)s")


def main() -> None:
    sdk = CimaSdk.inst()
    algorithm = sdk.get_default_algorithm().alg_id
    replayed = sdk.replay_cc_eventlog(sdk.get_cc_eventlog())
    if sorted(replayed) != list(range(sdk.get_measurement_count())):
        raise SystemExit(f"the event log is of registers {sorted(replayed)}")
    for index, values in replayed.items():
        held = sdk.get_cc_measurement([index, algorithm]).hash
        logging.info("register %d holds %s", index, held.hex())
        if held != values[algorithm]:
            raise SystemExit(f"the event log gives {values[algorithm].hex()}")
    if any(sdk.get_cc_measurement([index, algorithm]).hash == bytes(48) for index in (0, 1, 3)):
        raise SystemExit("a register is empty")
    report = sdk.get_cc_report(nonce=base64.b64encode(bytes(range(32))), data=base64.b64encode(b"some data"))
    report.dump()
    if not report.data:
        raise SystemExit("the report is empty")


if __name__ == "__main__":
    main()
