package node

import (
	"errors"
	"fmt"
	"slices"

	nodeattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/nodeattestor/v1"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
)

// maxPower is how many classes of power are selectors; of more, "power:more" is one.
const maxPower = 64

// describe names a node whose evidence is trusted. Its ID is the digest of event 0: that
// event holds the boot and the agent's first key, it is in RTMR3, and it stays the same
// while the machine runs, whatever becomes of cimad. Each boot is another agent: entries
// hang on selectors (a node alias), never on this ID.
func describe(trustDomain string, r *verify.Result) (*nodeattestorv1.AgentAttributes, error) {
	if r.Claims == nil || r.Claims.Host == nil || r.Claims.Container != nil {
		return nil, errors.New("the evidence is of a container: SPIRE's agent must run on the host, in no container")
	}
	if r.Guest != nil && r.Claims.Log.Anchor != logs.AnchorPCR {
		return nil, errors.New("an SNP guest without a TPM in a paravisor can be no node: no register holds its log, and so the event that names it")
	}
	if len(r.Events) == 0 || r.Events[0].Position != 0 || r.Events[0].Operation != logs.OpStart {
		return nil, errors.New("the evidence doesn't show the event that began the log")
	}
	selectors := []string{fmt.Sprintf("uid:%d", r.Claims.Host.UID)}
	add := func(name, value string) {
		if value != "" {
			selectors = append(selectors, name+":"+value)
		}
	}
	add("unit", r.Claims.Host.Unit)
	if r.Boot != nil {
		add("boot", r.Boot.Name)
		add("firmware", r.Boot.Firmware)
		add("system", r.Boot.System)
		add("vtpm", r.Boot.VTPM)
	}
	registers := make(map[string]hw.Digest)
	if r.Guest != nil {
		registers["measurement"] = r.Guest.Measurement
	}
	if r.Registers != nil {
		registers["mrtd"] = r.Registers.MRTD
		for i, value := range r.Registers.RTMR[:3] {
			registers[fmt.Sprintf("rtmr%d", i)] = value
		}
	}
	for _, name := range []string{"measurement", "mrtd", "rtmr0", "rtmr1", "rtmr2"} {
		if value := registers[name]; value != (hw.Digest{}) {
			add(name, value.String())
		}
	}
	power, err := powerOf(r.Events)
	if err != nil {
		return nil, err
	}
	for i, class := range power {
		if i == maxPower {
			add("power", "more")
			break
		}
		add("power", class)
	}
	if len(power) == 0 {
		add("power", "none")
	}
	return &nodeattestorv1.AgentAttributes{
		SpiffeId:       fmt.Sprintf("spiffe://%s/spire/agent/cima/%s", trustDomain, r.Events[0].Digest),
		SelectorValues: selectors,
		CanReattest:    true,
	}, nil
}

// powerOf are the classes of power of all containers of this boot, of which the policy
// allowed each. They are public events, so none is hidden.
func powerOf(events []verify.Event) (classes []string, err error) {
	for _, e := range events {
		if e.Operation != logs.OpPower {
			continue
		}
		var measured struct {
			Power logs.PowerBody `json:"power"`
		}
		text, err := canonical.Marshal(e.Measured)
		if err == nil {
			err = canonical.Unmarshal(text, &measured)
		}
		if err != nil || len(measured.Power.Classes) == 0 {
			return nil, fmt.Errorf("event %d must name classes of power: %v", e.Position, err)
		}
		classes = append(classes, measured.Power.Classes...)
	}
	slices.Sort(classes)
	return slices.Compact(classes), nil
}
