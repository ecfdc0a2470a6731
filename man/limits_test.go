package man

import (
	"regexp"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/config"
)

// Limits in the pages are those of the code.
func TestLimitsAreInTheirPages(t *testing.T) {
	const toml, cli, from = "cimad.toml.5", "cimactl.1", "cima-from-05.7"
	pages := make(map[string]string)
	for _, name := range []string{toml, cli, from} {
		_, rows, _ := strings.Cut(page(t, name), "| what | limit |")
		pages[name] = rows
	}
	for _, l := range []struct{ page, row, dir, constant string }{
		{toml, "| the configuration file | 1 MiB |", "daemon/config", "maxFile = 1 << 20"},
		{toml, "| **data** and **data_read**, each | 64 directories |", "daemon/config", "maxData = 64"},
		{toml, "| **public** | 256 names of 256 bytes |", "daemon/config", "maxPublic = 256"},
		{toml, "| **public** | 256 names of 256 bytes |", "daemon/config", "maxPublicName = 256"},
		{toml, "| the path of a socket | 107 bytes |", "daemon/config", "maxSocket = 107"},
		{toml, "| a nonce | 8 to 64 bytes |", "rpc", "MinNonce = 8"},
		{toml, "| a nonce | 8 to 64 bytes |", "rpc", "MaxNonce = 64"},
		{from, "| nonce | 8 to 64 bytes, required |", "rpc", "MaxNonce = 64"},
		{toml, "| user data | 4096 bytes |", "rpc", "MaxUserData = 4 << 10"},
		{from, "| user data | 4096 bytes |", "rpc", "MaxUserData = 4 << 10"},
		{toml, "| the id of a request | 128 bytes |", "rpc/server", "maxID = 128"},
		{toml, "| refused requests without an id | 16, then", "rpc/server", "maxBad = 16"},
		{toml, "| records of a page of the event log | 1024 |", "rpc", "MaxEventCount = 1024"},
		{from, "| records of a page | 1024 |", "rpc", "MaxEventCount = 1024"},
		{toml, "| 128 bytes each; 4096 bytes |", "rpc", "MaxExtendWord = 128"},
		{toml, "| 128 bytes each; 4096 bytes |", "rpc", "MaxExtendContent = 4 << 10"},
		{toml, "| callers of one shared quote | 4096 |", "rpc", "MaxShared = 4096"},
		{toml, "| a quote | 128 KiB |", "hw", "maxQuote = 128 << 10"},
		{toml, "| *claims* of evidence | 64 KiB |", "rpc", "maxClaims = 64 << 10"},
		{toml, "| an event | 256 KiB |", "logs", "MaxEvent = 256 << 10"},
		{toml, "| a launch in its event | 64 KiB,", "daemon/containers", "maxLaunch = 64 << 10"},
		{toml, "| what clients and verifiers read of evidence | 16 MiB |", "rpc", "MaxEvidence = 16 << 20"},
		{toml, "| config.json of a container | 4 MiB,", "daemon/launch", "MaxConfig = 4 << 20"},
		{toml, " 4096 mounts, 16,384 devices |", "daemon/launch", "maxMounts = 4096"},
		{toml, " 4096 mounts, 16,384 devices |", "daemon/launch", "maxDevices = 16384"},
		{toml, "| 1024, of 8 MiB |", "daemon/launch", "maxUnknown = 1024"},
		{toml, "| 1024, of 8 MiB |", "daemon/launch", "maxUnknownText = 8 << 20"},
		{toml, "| configuration of an image | 4 MiB,", "daemon/launch", "maxImageConfig = 4 << 20"},
		{toml, " 65,536 variables |", "daemon/launch", "maxVariables = 65536"},
		{toml, "| config.json of a user's own engine | 256 KiB |", "daemon/records", "maxUserConfig = 256 << 10"},
		{toml, "| the state of a runtime | 4 MiB |", "daemon/records", "maxState = 4 << 20"},
		{toml, "| containers in one directory of records | 16,384 |", "daemon/records", "maxEntries = 16384"},
		{toml, "| an entrypoint, a host service's program | 256 MiB |", "daemon/records", "maxExecutable = 256 << 20"},
		{toml, "| an entrypoint, a host service's program | 256 MiB |", "daemon/services", "maxProgram = 256 << 20"},
		{toml, "| the command line of a host service | 32 KiB |", "daemon/services", "maxArguments = 32 << 10"},
		{toml, "| 16,384; 64 MiB |", "daemon/power", "maxMounts = 16384"},
		{toml, "| 16,384; 64 MiB |", "daemon/procfs", "maxMountinfo = 64 << 20"},
		{toml, "| 20,000; 128 |", "daemon/power", "maxWalk = 20_000"},
		{toml, "| 20,000; 128 |", "daemon/power", "maxWalkDepth = 128"},
		{toml, "| links in a path | 40 |", "daemon/power", "maxLinks = 40"},
		{toml, "| open files of a first process | 1024 |", "daemon/power", "maxDescriptors = 1024"},
		{toml, "| 1024; 256, of 64 KiB |", "daemon/gate", "maxThreads = 1024"},
		{toml, "| 1024; 256, of 64 KiB |", "daemon/gate", "maxArguments = 256"},
		{toml, "| 1024; 256, of 64 KiB |", "daemon/gate", "maxArgumentBytes = 64 << 10"},
		{toml, "| 512; 64 |", "daemon/gate", "maxLeases = 512"},
		{toml, "| 512; 64 |", "daemon/gate", "maxLeasesOn = 64"},
		{toml, "| 256; 64 |", "daemon/gate", "maxReports = 256"},
		{toml, "| 256; 64 |", "daemon/gate", "maxReportsCharged = 64"},
		{toml, "| cgroups above a process; pid namespaces | 64; 32 |", "daemon/peer", "maxDepth = 64"},
		{toml, "| cgroups above a process; pid namespaces | 64; 32 |", "daemon/peer", "maxPIDNamespaces = 32"},
		{toml, "| an answer of an engine; an event | 8 MiB; 1 MiB |", "daemon/engines", "maxAnswer = 8 << 20"},
		{toml, "| an answer of an engine; an event | 8 MiB; 1 MiB |", "daemon/engines", "maxEvent = 1 << 20"},
		{toml, "| ranges of subordinate uids | 1,048,576 |", "daemon/trust", "maxSubUIDs = 1 << 20"},
		{toml, "| an entry of the IMA log | 1 MiB |", "logs/ima", "maxEntry = 1 << 20"},
		{cli, "| evidence | 16 MiB |", "rpc/cimactl/command", "MaxEvidence = 16 << 20"},
		{cli, "| 1 MiB |\n| references of a policy", "hw/verify/policy", "maxPolicy = 1 << 20"},
		{cli, "| references of a policy | 256 |", "hw/verify/policy", "maxReferences = 256"},
		{cli, "| nested arrays and tables of a policy | 32 |", "hw/verify/tables", "MaxNesting = 32"},
		{cli, "| faults that are told at once | 20 |", "hw/verify/tables", "maxErrors = 20"},
		{cli, "| a document of collateral | 4 MiB |", "hw/verify/dcap", "maxDocument = 4 << 20"},
		{cli, "| **replay**: a log | 1 GiB |", "rpc/cimactl/replay", "maxLog = 1 << 30"},
		{cli, "| **policy convert**: a policy of CIMA 0.5 | 64 KiB |", "rpc/cimactl/policy", "maxOldPolicy = 64 << 10"},
		{cli, "| 128 KiB, 4096 words |", "daemon/launch/predict", "maxLine = 128 << 10"},
		{cli, "| 128 KiB, 4096 words |", "daemon/launch/predict", "maxWords = 4096"},
		{cli, "| 4 MiB, 131,072 nodes, 64 deep |", "daemon/launch/predict/strictyaml", "MaxBytes = 4 << 20"},
		{cli, "| 4 MiB, 131,072 nodes, 64 deep |", "daemon/launch/predict/strictyaml", "maxNodes = 1 << 17"},
		{cli, "| 4 MiB, 131,072 nodes, 64 deep |", "daemon/launch/predict/strictyaml", "maxDepth = 64"},
		{cli, "| 512 layers, 65,536 files in an archive, 4 MiB of JSON |", "daemon/launch/predict/image", "maxLayers = 512"},
		{cli, "| 512 layers, 65,536 files in an archive, 4 MiB of JSON |", "daemon/launch/predict/image", "maxEntries = 1 << 16"},
		{cli, "| 512 layers, 65,536 files in an archive, 4 MiB of JSON |", "daemon/launch/predict/image", "maxJSON = 4 << 20"},
	} {
		if !strings.Contains(pages[l.page], l.row) {
			t.Errorf("%s has no row %q", l.page, l.row)
		}
		name, value, _ := strings.Cut(l.constant, " = ")
		if !regexp.MustCompile(`(?m)^(?:const)?\s*` + name + `\s+= ` + regexp.QuoteMeta(value) + `(?:\s|$)`).MatchString(source(t, l.dir)) {
			t.Errorf("%s has no constant %s: is the row %q of %s right?", l.dir, l.constant, l.row, l.page)
		}
	}
	// Defaults that are in the page for newcomers, as cimad.toml(5) has them.
	for key, said := range map[string]string{
		"requests_per_second": "500 a second, 1000 at once", "quotes_per_minute": "60 a minute, 10 at once", "connections_per_container": "64 for each container, 1024 in all",
		"in_flight": "256 on a connection", "evidence_reply": "64 KiB; 1 MiB; 4 MiB", "events_per_container": "1000 in a boot", "quote_timeout": "after 45 s",
	} {
		number := regexp.MustCompile(`[0-9]+`).FindString(said)
		if key == "evidence_reply" {
			number = "4194304"
		}
		if !strings.Contains(pages[from], said) || !regexp.MustCompile(`\*\*`+key+`\*\* = "?`+number+`[s.0]*"?[,\n]`).MatchString(page(t, toml)) {
			t.Errorf("%s must say %q, as %s is in %s", from, said, key, toml)
		}
	}
}

// The first screen of cimad(8) says what is measured by default, and what one line turns
// on; that line does.
func TestFirstScreen(t *testing.T) {
	_, description, _ := strings.Cut(page(t, "cimad.8"), "\n# DESCRIPTION\n")
	first, _, _ := strings.Cut(strings.TrimSpace(description), "\n\n")
	for _, want := range []string{"By default", "*launch*", "*power*", `**mode** = "measure" in **[exec]**`} {
		if !strings.Contains(first, want) {
			t.Errorf("the first paragraph has no %s:\n%s", want, first)
		}
	}
	if c, err := config.Parse("[exec]\nmode = \"measure\"\n"); err != nil || c.Exec.Mode != config.ExecMeasure || config.Default().Exec.Mode != config.ExecOff {
		t.Errorf("%v: %+v", err, c.Exec)
	}
}
