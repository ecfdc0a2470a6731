#!/usr/bin/env python3
"""joins answers: what does dcap-qvl say of the synthetic joins of TestJoins?

    pip install dcap-qvl==0.7.0    # in a venv
    mkdir joins; go test ./hw/verify -run TestJoins -args -joins $PWD/joins
    joins.py joins >hw/verify/testdata/joins.tsv

A line for each join: status and advisories; or "none" where no level is reached,
"Revoked", or "another part's status".
"""

import json
import sys
from pathlib import Path

import dcap_qvl


def split(text, member):
    """The signed part as it stands, and its signature."""
    start = text.index('"%s":' % member) + len(member) + 3
    return text[start : text.rindex(',"signature"')], bytes.fromhex(json.loads(text)["signature"])


def refused(words):
    """Why it refuses, in a word."""
    for part, word in (
        ("status is invalid: Revoked", "Revoked"),
        ("Unrecognized TCB status", "another part's status"),
        ("below minimum required", "none"),
        ("No matching TCB level", "none"),
    ):
        if part in words:
            return word
    return "error: " + " ".join(words.split())


def main():
    here = Path(sys.argv[1])
    read = lambda name: (here / name).read_bytes()
    text = lambda name: read(name).decode()
    for tcb in sorted(here.glob("*-tcb")):
        number = tcb.name[:3]
        info, info_signature = split(tcb.read_text(), "tcbInfo")
        qe, qe_signature = split(text(number + "-qe"), "enclaveIdentity")
        collateral = dcap_qvl.QuoteCollateralV3(
            text("ca"), read("root-crl"), read("pck-crl"), text("signer"), info, info_signature, text("signer"), qe, qe_signature
        )
        try:
            report = dcap_qvl.verify_with_root_ca(read("quote"), collateral, read("root"), int(text("now")))
            print(report.status, ",".join(sorted(set(report.advisory_ids))), sep="\t")
        except Exception as e:  # its errors are of one kind, with their causes
            print(refused(str(e)))


if __name__ == "__main__":
    main()
