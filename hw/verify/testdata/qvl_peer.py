"""Verifies a quote with Phala's dcap-qvl, for BenchmarkAppraiser.

qvl_peer.py QUOTE COLLATERAL ROOT SECONDS: a quote, the folder of its collateral, a root in
DER, and the time for which it is judged. For each line on stdin it verifies once, and
prints how many nanoseconds that took.
"""
import json
import pathlib
import sys
import time
import urllib.parse

import dcap_qvl

quote, folder, root = pathlib.Path(sys.argv[1]).read_bytes(), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]).read_bytes()
now = int(sys.argv[4])


def chain(name):
    text = (folder / (name + ".chain")).read_text().strip()
    return text if text.startswith("-----BEGIN") else urllib.parse.unquote(text)


def signed(name, member):
    """The bytes of a member, as they were signed, and the signature."""
    text = (folder / name).read_text()
    start = text.index(":", text.index('"%s"' % member)) + 1
    while text[start] != "{":
        start += 1
    _, end = json.JSONDecoder().raw_decode(text, start)
    return text[start:end], bytes.fromhex(json.loads(text)["signature"])


tcb_name = next(folder.glob("tcb-*.json")).name
tcb, tcb_signature = signed(tcb_name, "tcbInfo")
qe, qe_signature = signed("qe-identity.json", "enclaveIdentity")
crl = "pck-crl-platform.der"
collateral = dcap_qvl.QuoteCollateralV3(
    chain(crl), (folder / "root-crl.der").read_bytes(), (folder / crl).read_bytes(),
    chain(tcb_name), tcb, tcb_signature, chain("qe-identity.json"), qe, qe_signature,
)
for _ in sys.stdin:
    start = time.perf_counter_ns()
    dcap_qvl.verify_with_root_ca(quote, collateral, root, now)
    print(time.perf_counter_ns() - start, flush=True)
