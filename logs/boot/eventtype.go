package boot

import "fmt"

// Event types of TCG PC Client Platform Firmware Profile 1.06, section 10.4.1.
const (
	EvPrebootCert         = 0x00
	EvPostCode            = 0x01
	EvUnused              = 0x02
	EvNoAction            = 0x03 // extends nothing
	EvSeparator           = 0x04
	EvAction              = 0x05
	EvEventTag            = 0x06 // TCG_PCClientTaggedEvent; AAEL records have it, too
	EvSCRTMContents       = 0x07
	EvSCRTMVersion        = 0x08
	EvCPUMicrocode        = 0x09
	EvPlatformConfigFlags = 0x0A
	EvTableOfDevices      = 0x0B
	EvCompactHash         = 0x0C
	EvIPL                 = 0x0D // boot loaders: grub, shim, systemd-stub
	EvIPLPartitionData    = 0x0E
	EvNonhostCode         = 0x0F
	EvNonhostConfig       = 0x10
	EvNonhostInfo         = 0x11
	EvOmitBootDevice      = 0x12
	EvPostCode2           = 0x13

	// Not of the TCG: an IMA entry in the event log of the CC Trusted API, which CIMA
	// 0.5 answered with.
	EvIMAMeasurement = 0x14

	EvEFIEventBase               = 0x80000000
	EvEFIVariableDriverConfig    = 0x80000001
	EvEFIVariableBoot            = 0x80000002
	EvEFIBootServicesApplication = 0x80000003
	EvEFIBootServicesDriver      = 0x80000004
	EvEFIRuntimeServicesDriver   = 0x80000005
	EvEFIGPTEvent                = 0x80000006
	EvEFIAction                  = 0x80000007
	EvEFIPlatformFirmwareBlob    = 0x80000008
	EvEFIHandoffTables           = 0x80000009
	EvEFIPlatformFirmwareBlob2   = 0x8000000A
	EvEFIHandoffTables2          = 0x8000000B
	EvEFIVariableBoot2           = 0x8000000C
	EvEFIGPTEvent2               = 0x8000000D
	EvEFIHCRTMEvent              = 0x80000010
	EvEFIVariableAuthority       = 0x800000E0
	EvEFISPDMFirmwareBlob        = 0x800000E1
	EvEFISPDMFirmwareConfig      = 0x800000E2
	EvEFISPDMDevicePolicy        = 0x800000E3
	EvEFISPDMDeviceAuthority     = 0x800000E4
)

// TypeName is the name of an event type in the TCG's spelling ("EV_SEPARATOR"), or
// "unknown (0x…)" for a type that is not listed here.
func TypeName(t uint32) string {
	switch {
	case t < uint32(len(lowTypes)):
		return lowTypes[t]
	case t >= EvEFIEventBase && t-EvEFIEventBase < uint32(len(efiTypes)):
		return efiTypes[t-EvEFIEventBase]
	}
	switch t {
	case EvIMAMeasurement:
		return "IMA_MEASUREMENT_EVENT"
	case EvEFIHCRTMEvent:
		return "EV_EFI_HCRTM_EVENT"
	case EvEFIVariableAuthority:
		return "EV_EFI_VARIABLE_AUTHORITY"
	case EvEFISPDMFirmwareBlob:
		return "EV_EFI_SPDM_FIRMWARE_BLOB"
	case EvEFISPDMFirmwareConfig:
		return "EV_EFI_SPDM_FIRMWARE_CONFIG"
	case EvEFISPDMDevicePolicy:
		return "EV_EFI_SPDM_DEVICE_POLICY"
	case EvEFISPDMDeviceAuthority:
		return "EV_EFI_SPDM_DEVICE_AUTHORITY"
	}
	return fmt.Sprintf("unknown (0x%08x)", t)
}

var lowTypes = [...]string{
	"EV_PREBOOT_CERT", "EV_POST_CODE", "EV_UNUSED", "EV_NO_ACTION",
	"EV_SEPARATOR", "EV_ACTION", "EV_EVENT_TAG", "EV_S_CRTM_CONTENTS",
	"EV_S_CRTM_VERSION", "EV_CPU_MICROCODE", "EV_PLATFORM_CONFIG_FLAGS", "EV_TABLE_OF_DEVICES",
	"EV_COMPACT_HASH", "EV_IPL", "EV_IPL_PARTITION_DATA", "EV_NONHOST_CODE",
	"EV_NONHOST_CONFIG", "EV_NONHOST_INFO", "EV_OMIT_BOOT_DEVICE_EVENTS", "EV_POST_CODE2",
}

var efiTypes = [...]string{
	"EV_EFI_EVENT_BASE", "EV_EFI_VARIABLE_DRIVER_CONFIG", "EV_EFI_VARIABLE_BOOT",
	"EV_EFI_BOOT_SERVICES_APPLICATION", "EV_EFI_BOOT_SERVICES_DRIVER", "EV_EFI_RUNTIME_SERVICES_DRIVER",
	"EV_EFI_GPT_EVENT", "EV_EFI_ACTION", "EV_EFI_PLATFORM_FIRMWARE_BLOB",
	"EV_EFI_HANDOFF_TABLES", "EV_EFI_PLATFORM_FIRMWARE_BLOB2", "EV_EFI_HANDOFF_TABLES2",
	"EV_EFI_VARIABLE_BOOT2", "EV_EFI_GPT_EVENT2",
}
