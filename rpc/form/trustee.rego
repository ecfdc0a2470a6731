# An example policy for Trustee's attestation service: CIMA's evidence of one
# container. Register it under an id of your own and "_cpu", and name the id in policy_ids.
#
# Trustee has checked when this runs: the quote up to Intel's root, that
# REPORTDATA is the hash of runtime_data (CIMA's claims), and that the event log
# replays to RTMR0-3. It has NOT checked the agent's signature or the registers
# in the claims, and a digest that doesn't match its event's data it only marks:
# so every event that is read here must have digest_matches_event.
#
# "cimactl verify" checks the rest; see cima-relying-party(7).
package policy

import rego.v1

default executables := 33

default hardware := 97

default configuration := 36

trust_claims := {
	"executables": executables,
	"hardware": hardware,
	"configuration": configuration,
	"file-system": 0,
	"instance-identity": instance_identity,
	"runtime-opaque": 0,
	"storage-opaque": 0,
	"sourced-data": 0,
}

default instance_identity := 97

claims := input.runtime_data_claims

# What is known: fill in, or register as reference values.
known_mr_td := query_reference_value("mr_td")

known_rtmr_0 := query_reference_value("rtmr_0")

known_rtmr_1 := query_reference_value("rtmr_1")

known_rtmr_2 := query_reference_value("rtmr_2")

known_launch_digests := query_reference_value("cima_launch_digest")

# The nonce that you sent, in standard base64: a reference value that you set
# for each session, or your key broker's.
known_nonces := query_reference_value("cima_nonce")

hardware := 2 if {
	input.tdx.quote.header.tee_type == "81000000"
	input.tdx.quote.header.vendor_id == "939a7233f79c4ca9940a0db3957f0607"
	input.tdx.quote.body.mr_td in known_mr_td
	input.tdx.tcb_status == "UpToDate"
	input.tdx.collateral_expiration_status == "0"
}

configuration := 2 if {
	input.tdx.td_attributes.debug == false
}

# The boot that leads to the agent: its word counts only then.
executables := 3 if {
	input.tdx.quote.body.rtmr_0 in known_rtmr_0
	input.tdx.quote.body.rtmr_1 in known_rtmr_1
	input.tdx.quote.body.rtmr_2 in known_rtmr_2
	claims.log.anchor == "rtmr3"
	claims.container.launch_digest in known_launch_digests
	claims.container.assurance.start == "gated"
	claims.container.assurance.cgroup_owner == 0
	count(proved("launch")) > 0
	count(proved("power")) == 0
	count(unproved) == 0

	# No public event is hidden: each is shown in full, and all are there. One that
	# came after the claims is one too many: ask again then.
	count(public_events) == claims.log.public_count
}

# Fresh, and of the container that the claims name.
instance_identity := 2 if {
	claims.nonce in known_nonces
	some e in proved("launch")
	e.container == claims.container.id
}

# Events of the runtime log, of RTMR3 (index 4). Others' events, of which only
# the digest is shown, are no AAEL and not among them.
own := [e |
	some e in input.tdx.uefi_event_logs
	e.index == 4
	e.type_name == "EV_EVENT_TAG"
	e.details.unicode_name == "AAEL"
	e.details.data.domain == "cima"
]

proved(operation) := [content |
	some e in own
	e.digest_matches_event == true
	e.details.data.operation == operation
	content := object_of(e.details.data.content)
]

# Versions of Trustee give an event's JSON as text, or read.
object_of(c) := c if is_object(c)

object_of(c) := json.unmarshal(c) if is_string(c)

# Public events name no container.
public_events := [e |
	some e in own
	e.digest_matches_event == true
	e.details.data.operation in {"start", "policy", "seal", "system", "power", "missed", "ima"}
	not object_of(e.details.data.content).container
]

unproved := [e | some e in own; e.digest_matches_event != true]
