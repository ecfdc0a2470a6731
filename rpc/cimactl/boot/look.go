package boot

import (
	"strings"

	"github.com/cima-project/cima/logs/boot/expected"
)

// look says what to look at where a log has another event than is expected.
func look(l *expected.Line) string {
	switch {
	case l.Verdict == expected.Predicted, l.Verdict == expected.NotKnown, l.Verdict == expected.Recognised:
		return ""
	case l.Is != nil && l.Verdict == expected.Unlike:
		return "it is " + l.Is.What + " of " + l.Is.From
	case l.Verdict == expected.Extra && l.Is != nil && strings.HasPrefix(l.Is.What, "Exit Boot Services"):
		return "firmware refused the first call: --retried"
	case l.Verdict == expected.Extra && l.Is != nil:
		return "it is there once more: " + l.Is.What + hint("repeated")
	case l.Verdict == expected.Extra:
		return "nothing is expected there: what else measures?"
	}
	return "expected was " + what(l.Want) + hint(l.Want.Kind)
}

func what(e *expected.Event) string {
	if len(e.Choices) == 0 {
		return "*" + e.Kind
	}
	return e.Choices[0].What + " of " + e.Choices[0].From
}

// hint is what usually is the cause where an event of a kind differs.
func hint(kind string) string {
	text, ok := hints[kind]
	if !ok {
		return ""
	}
	return ": " + text
}

var hints = map[string]string{
	"repeated":     "after a boot option that failed, --failed counts them",
	"hob":          "another size of memory (--memory), or another firmware image",
	"cfv":          "another firmware image, or variables were written into it",
	"secure-boot":  "the firmware was built otherwise: --secure-boot",
	"variable":     "keys were enrolled: the image must hold the same ones",
	"acpi":         "another version of QEMU, or other options of the machine",
	"separator":    "the firmware's family: --separator 0 or 1",
	"action":       "boot options that failed before: --failed; or the boot was not finished",
	"gpt":          "another disk: --disk, or none",
	"kernel":       "another kernel; or QEMU patched it: --handover patched with --memory",
	"uki":          "another image: was it signed, or built again?",
	"addon":        "another add-on lies beside the image, or none",
	"shim":         "another shim: was it updated?",
	"grub":         "grub.cfg is another, or its environment; or grub was updated",
	"mok":          "keys were enrolled by mokutil, or shim is another",
	"section-name": "the image has other sections",
	"section":      "the image has another content of that section",
	"options":      "the boot entry hands over another text: --options",
	"addon-line":   "other add-ons: their command lines are measured together",
	"sidecar":      "credentials or extensions beside the image are others",
	"addon-part":   "another add-on, or another version of systemd-stub",
	"file":         "a file that grub read is another",
	"line":         "another command line, which the event does not show; or --initrd-first",
	"initrd":       "another initrd: is it built anew on each machine?",
}
