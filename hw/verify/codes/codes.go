// Package codes answers: what could a reader take for proved, and is not?
//
// A code names one such thing. Some stand in the way of trust unless a policy waives them,
// the others are told; a policy can demand that one of these be closed (cima-policy(5),
// NOT PROVED).
package codes

import (
	"slices"

	"github.com/cima-project/cima/hw/verify/tables"
)

// Code names what a reader could take for proved, and is not.
type Code struct {
	Name   string
	Stands bool   // it stands in the way of trust, unless a policy waives it
	What   string // that is not proved
	Reason string // why it stands in the way, or is only told
}

// All are all codes, in the order in which a result has them. cima-policy(5) has the same
// table.
func All() []Code { return slices.Clone(all) }

var all = []Code{
	{RootGiven, false, "that this is hardware: the root of trust was given, it is not built in", "whoever gave the root knows it; the verdict names it"},
	{RootSimulated, false, "that this is hardware: the TD is simulated", "simulated TDs need a root that was given; the verdict names it"},
	{TDOpen, false, "that the host keeps out of the TD's memory", "[td] names the attribute that lets it in"},
	{ServiceTD, false, "who else has the keys to the TD's memory: it has a service TD, or can get one", "[td] names the service TD"},
	{SNPOpen, false, "that the host keeps out of the guest's memory", "[snp] allows debug, or a migration agent"},
	{Collateral, true, "that the platform is patched and its certificates are not revoked: no collateral", "a broken platform signs anything"},
	{ReportTime, false, "when the hardware signed: the nonce is in the TPM's quote alone, and the paravisor keeps its key from boot to boot", "what the host shows may be a report of an earlier boot, on firmware of then"},
	{TCBLevel, false, "that the platform is patched", "[tcb] allows its status"},
	{SNPLevel, true, "that the firmware below the guest is patched: the policy names no minimum TCB", "an old firmware signs anything, and AMD signs no list of what is old"},
	{Platform, false, "that the platform is closed to its neighbours and its owner: its certificate says how it is set", "most platforms are set so; [tcb] says smt, dynamic_platform and cached_keys"},
	{Nonce, true, "that it is fresh: no nonce", "evidence of any age says the same"},
	{NonceAge, true, "that the nonce is as young as [freshness] wants: nobody said when it was made", "who keeps a nonce can make evidence now and show it later"},
	{Channel, false, "who is at the other end: no channel is bound, and a nonce can be relayed", "who sends no secret needs no channel; whoever does demands it"},
	{BootUnknown, false, "who wrote what was booted: no reference value covers it", "the step boot-values refuses it"},
	{BootFirmware, true, "what was booted: the launch measurement covers the firmware alone", "the firmware boots what the host shows it; the agent can be anybody's"},
	{FirmwareVaries, true, "what the firmware was told: [firmware] leaves events of RTMR0 open", "ACPI tables are code that the kernel runs"},
	{Paravisor, true, "that the PCRs are the TPM's: the policy doesn't know the paravisor", "whoever has the paravisor has the TPM's key, and signs any PCRs"},
	{PCRsVary, true, "what was booted: [vtpm] leaves PCRs open", "any of what they hold can be code"},
	{BootVaries, true, "what was booted: [system] leaves events of RTMR1 or RTMR2 open", "any of them can be code"},
	{Root, true, "who wrote the agent: no register covers the root file system", "the host can write the agent's own file, and all that it says"},
	{RootPartly, true, "who wrote all that the agent reads: IMA covers the files that its policy names", "directories, absent files and unsigned configuration are the host's"},
	{LineOpens, true, "that nobody gets in by the command line: it has words that let somebody", "a console or a disk of the host is enough then"},
	{HostSMBIOS, true, "what the host said by SMBIOS: the system reads it", "no register covers it, and systemd takes credentials from it"},
	{HostFwCfg, true, "what the host said by fw_cfg: the system reads it", "no register covers it, and Ignition takes a configuration from it"},
	{HostMetadata, true, "what the host said by its metadata service: the system reads it", "no register covers it, and cloud-init takes keys and scripts from it"},
	{HostAML, true, "what the host's ACPI code does: the kernel runs it", "it reads and writes all memory"},
	{HostDisk, true, "what lies on the host's disks: the system reads them", "no register covers them"},
	{HostConsole, true, "what comes from the host's console: the system listens", "a login there is a shell"},
	{HostUnknown, true, "what the host said that no register covers: nobody has looked what the system reads", "whoever wrote the policy has not looked"},
	{HostAgent, true, "what the host asks of an agent in the guest", "such agents execute commands"},
	{Anchor, true, "that the log is whole: RTMR3 is not its anchor, the agent's word is", "a log that no register holds can be cut"},
	{LogPCR, true, "that the log is whole: the policy doesn't say which PCR holds it and held nothing before (\"log\")", "whoever is root later can begin another log, in any PCR that the policy leaves open"},
	{NoRegister, true, "that the log is whole, or the agent's: an SNP guest has no register that only grows", "whoever has been root since the boot can make a report over another log, of his own"},
	{Private, true, "that the log is whole: nothing is shown of other containers, so it doesn't replay", "the agent's word is all"},
	{AgentKey, true, "that one agent wrote the log: it has another key since a restart", "something else could pass for it"},
	{MissedLaunch, true, "that no other container could act as root of the guest: starts were missed", "a container that nobody measured could have had any power"},
	{Power, false, "that containers can't act as root of the guest", "[power] allows their classes"},
	{CallerUnknown, false, "who asked: no reference value covers the caller", "the step caller-values refuses it"},
	{AnyCaller, false, "that the right one asked: the policy takes any", "the policy says any = true; compare the claims yourself"},
	{HostProcess, false, "what the host process runs: its unit and uid are the agent's word", "[host] names the unit"},
	{Start, true, "what ran before the container was measured: it was started first", "what ran first can have changed all the rest"},
	{CallerProcess, false, "that the caller was that very process: the kernel gave its number alone", "numbers are used again only after many starts"},
	{Owner, false, "that root started it", "[[container]] names the user"},
	{EarlierLaunch, true, "what was asked for when it was started: an earlier version logged it, and no digest; start it again", "nobody knows what was asked for"},
	{Image, false, "its image", "the launch digest says so, and [[container]] names it"},
	{Defaults, false, "what the engine added to the launch by itself", "it changes with the engine's version; [[container]] can name defaults"},
	{Mounts, true, "that its mounts are of the places that were asked for: some lead elsewhere", "the launch digest covers the text alone; match on asked.mounts covers the place"},
	{Executions, false, "that nothing else ran: a program can run without an exec event", "a container runs what its image has; execs makes this stand"},
	{Volumes, false, "what lies in its volumes: a launch is what was asked for", "an image reads what it is made to read"},
	{Later, false, "what happened after the claims were fixed", "each quote ends somewhere; ask again"},
}

// Names of the codes. They don't change from version to version.
const (
	RootGiven      = "root-given"
	RootSimulated  = "root-simulated"
	TDOpen         = "td-open"
	ServiceTD      = "service-td"
	SNPOpen        = "snp-open"
	Collateral     = "collateral"
	ReportTime     = "report-time"
	TCBLevel       = "tcb-level"
	SNPLevel       = "snp-level"
	Platform       = "platform"
	Nonce          = "nonce"
	NonceAge       = "nonce-age"
	Channel        = "channel"
	BootUnknown    = "boot"
	BootFirmware   = "boot-firmware-alone"
	FirmwareVaries = "firmware-varies"
	Paravisor      = "paravisor"
	PCRsVary       = "pcrs-vary"
	BootVaries     = "boot-varies"
	Root           = "root-not-covered"
	RootPartly     = "root-partly-covered"
	LineOpens      = "line-opens"
	HostSMBIOS     = "host-input-smbios"
	HostFwCfg      = "host-input-fw_cfg"
	HostMetadata   = "host-input-metadata"
	HostAML        = "host-input-aml"
	HostDisk       = "host-input-disk"
	HostConsole    = "host-input-console"
	HostAgent      = "host-input-agent"
	HostUnknown    = "host-input-unknown"
	Anchor         = "anchor"
	LogPCR         = "log-pcr"
	NoRegister     = "no-register"
	Private        = "private-log"
	AgentKey       = "agent-key"
	MissedLaunch   = "missed-launch"
	Power          = "power"
	CallerUnknown  = "caller"
	AnyCaller      = "any-caller"
	HostProcess    = "host-process"
	Start          = "start-observed"
	CallerProcess  = "caller-process"
	Owner          = "owner"
	EarlierLaunch  = "earlier-launch"
	Image          = "image"
	Defaults       = "defaults"
	Mounts         = "mounts"
	Executions     = "executions"
	Volumes        = "volumes"
	Later          = "later-events"
)

// HostInputs are what a [system.NAME] can say that it reads of its host. HostInput before
// one is its code.
func HostInputs() []string {
	return []string{"smbios", "fw_cfg", "metadata", "aml", "disk", "console", "agent", "unknown"}
}

// HostInput stands before the names of HostInputs.
const HostInput = "host-input-"

// Of finds a code by its name.
func Of(name string) (Code, bool) {
	i := slices.IndexFunc(all, func(c Code) bool { return c.Name == name })
	if i < 0 {
		return Code{}, false
	}
	return all[i], true
}

// BootOpen reports whether these gaps leave a part of what was booted open, which can be code.
func BootOpen(gaps []string) bool {
	return slices.Contains(gaps, PCRsVary) || slices.Contains(gaps, BootVaries)
}

// AgentUnknown reports whether by these gaps the agent can be anybody's, and so its word.
func AgentUnknown(gaps []string) bool {
	return BootOpen(gaps) || slices.Contains(gaps, BootFirmware) || slices.Contains(gaps, Root)
}

func names() (list []string) {
	for _, c := range all {
		list = append(list, c.Name)
	}
	return list
}

// Wish is which codes a policy, a boot or a container waives and demands.
type Wish struct{ waive, demand []string }

// Demand is the wish that these codes be closed.
func Demand(list ...string) Wish { return Wish{demand: list} }

// Read takes waive and demand of a table.
func Read(t *tables.Table) Wish {
	w := Wish{t.Texts("waive", tables.OneOf("code", names())), t.Texts("demand", tables.OneOf("code", names()))}
	for _, name := range w.waive {
		if c, ok := Of(name); ok && !c.Stands && name != Executions {
			t.Bad("waive", "codes that stand in the way of trust: %q doesn't", name)
		}
		if slices.Contains(w.demand, name) {
			t.Bad("waive", "other codes than demand: %q is in both", name)
		}
	}
	for _, name := range w.demand {
		if c, ok := Of(name); ok && c.Stands {
			t.Bad("demand", "codes that don't stand in the way of trust by themselves: %q does", name)
		}
	}
	return w
}

// Stands reports whether a gap stands in the way of trust, and whether a policy waives
// it. A boot's and a container's own wishes count there.
func (w Wishes) Stands(code string) (stands, waived bool) {
	c, _ := Of(code)
	for _, one := range w {
		stands = stands || slices.Contains(one.demand, code)
		waived = waived || slices.Contains(one.waive, code)
	}
	stands = stands || c.Stands
	return stands && !waived, waived
}

// Wishes are those of a policy, of the boot that fits, and of the container that fits.
type Wishes []Wish
