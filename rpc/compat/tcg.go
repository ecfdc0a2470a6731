package compat

import "fmt"

// TCG_ALG is an algorithm of the TCG's registry, TcgEventType a type of event.
type (
	TCG_ALG      int32
	TcgEventType uint32
)

// Algorithms.
const (
	TPM_ALG_ERROR  TCG_ALG = 0x0
	TPM_ALG_RSA    TCG_ALG = 0x1
	TPM_ALG_SHA1   TCG_ALG = 0x4
	TPM_ALG_SHA256 TCG_ALG = 0xB
	TPM_ALG_SHA384 TCG_ALG = 0xC
	TPM_ALG_SHA512 TCG_ALG = 0xD
	TPM_ALG_ECDSA  TCG_ALG = 0x18
)

// Types of events. An own event of a container is an EV_EVENT_TAG.
const (
	EV_PREBOOT_CERT                  TcgEventType = 0x0
	EV_POST_CODE                     TcgEventType = 0x1
	EV_UNUSED                        TcgEventType = 0x2
	EV_NO_ACTION                     TcgEventType = 0x3
	EV_SEPARATOR                     TcgEventType = 0x4
	EV_ACTION                        TcgEventType = 0x5
	EV_EVENT_TAG                     TcgEventType = 0x6
	EV_S_CRTM_CONTENTS               TcgEventType = 0x7
	EV_S_CRTM_VERSION                TcgEventType = 0x8
	EV_CPU_MICROCODE                 TcgEventType = 0x9
	EV_PLATFORM_CONFIG_FLAGS         TcgEventType = 0xa
	EV_TABLE_OF_DEVICES              TcgEventType = 0xb
	EV_COMPACT_HASH                  TcgEventType = 0xc
	EV_IPL                           TcgEventType = 0xd
	EV_IPL_PARTITION_DATA            TcgEventType = 0xe
	EV_NONHOST_CODE                  TcgEventType = 0xf
	EV_NONHOST_CONFIG                TcgEventType = 0x10
	EV_NONHOST_INFO                  TcgEventType = 0x11
	EV_OMIT_BOOT_DEVICE_EVENTS       TcgEventType = 0x12
	EV_POST_CODE2                    TcgEventType = 0x13
	IMA_MEASUREMENT_EVENT            TcgEventType = 0x14
	EV_EFI_EVENT_BASE                TcgEventType = 0x80000000
	EV_EFI_VARIABLE_DRIVER_CONFIG    TcgEventType = 0x80000001
	EV_EFI_VARIABLE_BOOT             TcgEventType = 0x80000002
	EV_EFI_BOOT_SERVICES_APPLICATION TcgEventType = 0x80000003
	EV_EFI_BOOT_SERVICES_DRIVER      TcgEventType = 0x80000004
	EV_EFI_RUNTIME_SERVICES_DRIVER   TcgEventType = 0x80000005
	EV_EFI_GPT_EVENT                 TcgEventType = 0x80000006
	EV_EFI_ACTION                    TcgEventType = 0x80000007
	EV_EFI_PLATFORM_FIRMWARE_BLOB    TcgEventType = 0x80000008
	EV_EFI_HANDOFF_TABLES            TcgEventType = 0x80000009
	EV_EFI_PLATFORM_FIRMWARE_BLOB2   TcgEventType = 0x8000000a
	EV_EFI_HANDOFF_TABLES2           TcgEventType = 0x8000000b
	EV_EFI_VARIABLE_BOOT2            TcgEventType = 0x8000000c
	EV_EFI_GPT_EVENT2                TcgEventType = 0x8000000d
	EV_EFI_HCRTM_EVENT               TcgEventType = 0x80000010
	EV_EFI_VARIABLE_AUTHORITY        TcgEventType = 0x800000e0
	EV_EFI_SPDM_FIRMWARE_BLOB        TcgEventType = 0x800000e1
	EV_EFI_SPDM_FIRMWARE_CONFIG      TcgEventType = 0x800000e2
	EV_EFI_SPDM_DEVICE_POLICY        TcgEventType = 0x800000e3
	EV_EFI_SPDM_DEVICE_AUTHORITY     TcgEventType = 0x800000e4
)

// Kinds of confidential computing; a report is always of TYPE_CC_TDX.
const (
	TYPE_CC_NONE CC_Type = -1
	TYPE_CC_TPM  CC_Type = 0
	TYPE_CC_TDX  CC_Type = 1
	TYPE_CC_SEV  CC_Type = 2
	TYPE_CC_CCA  CC_Type = 3
)

// CC_Type is a kind of confidential computing.
type CC_Type int32

// String is the kind's name.
func (t CC_Type) String() string {
	names := [...]string{"NONE", "TPM", "TDX", "SEV", "CCA"}
	if t < TYPE_CC_NONE || t > TYPE_CC_CCA {
		return ""
	}
	return names[t-TYPE_CC_NONE]
}

// GetDefaultTPMAlg is the algorithm of every digest.
func GetDefaultTPMAlg() TCG_ALG { return TPM_ALG_SHA384 }

// String is the algorithm's name, "" if it has none.
func (a TCG_ALG) String() string {
	switch a {
	case TPM_ALG_ERROR:
		return "TPM_ALG_ERROR"
	case TPM_ALG_RSA:
		return "TPM_ALG_RSA"
	case TPM_ALG_SHA1:
		return "TPM_ALG_SHA1"
	case TPM_ALG_SHA256:
		return "TPM_ALG_SHA256"
	case TPM_ALG_SHA384:
		return "TPM_ALG_SHA384"
	case TPM_ALG_SHA512:
		return "TPM_ALG_SHA512"
	case TPM_ALG_ECDSA:
		return "TPM_ALG_ECDSA"
	}
	return ""
}

// String is the type's name, "" if it has none.
func (t TcgEventType) String() string {
	switch t {
	case EV_PREBOOT_CERT:
		return "EV_PREBOOT_CERT"
	case EV_POST_CODE:
		return "EV_POST_CODE"
	case EV_UNUSED:
		return "EV_UNUSED"
	case EV_NO_ACTION:
		return "EV_NO_ACTION"
	case EV_SEPARATOR:
		return "EV_SEPARATOR"
	case EV_ACTION:
		return "EV_ACTION"
	case EV_EVENT_TAG:
		return "EV_EVENT_TAG"
	case EV_S_CRTM_CONTENTS:
		return "EV_S_CRTM_CONTENTS"
	case EV_S_CRTM_VERSION:
		return "EV_S_CRTM_VERSION"
	case EV_CPU_MICROCODE:
		return "EV_CPU_MICROCODE"
	case EV_PLATFORM_CONFIG_FLAGS:
		return "EV_PLATFORM_CONFIG_FLAGS"
	case EV_TABLE_OF_DEVICES:
		return "EV_TABLE_OF_DEVICES"
	case EV_COMPACT_HASH:
		return "EV_COMPACT_HASH"
	case EV_IPL:
		return "EV_IPL"
	case EV_IPL_PARTITION_DATA:
		return "EV_IPL_PARTITION_DATA"
	case EV_NONHOST_CODE:
		return "EV_NONHOST_CODE"
	case EV_NONHOST_CONFIG:
		return "EV_NONHOST_CONFIG"
	case EV_NONHOST_INFO:
		return "EV_NONHOST_INFO"
	case EV_OMIT_BOOT_DEVICE_EVENTS:
		return "EV_OMIT_BOOT_DEVICE_EVENTS"
	case EV_POST_CODE2:
		return "EV_POST_CODE2"
	case IMA_MEASUREMENT_EVENT:
		return "IMA_MEASUREMENT_EVENT"
	case EV_EFI_EVENT_BASE:
		return "EV_EFI_EVENT_BASE"
	case EV_EFI_VARIABLE_DRIVER_CONFIG:
		return "EV_EFI_VARIABLE_DRIVER_CONFIG"
	case EV_EFI_VARIABLE_BOOT:
		return "EV_EFI_VARIABLE_BOOT"
	case EV_EFI_BOOT_SERVICES_APPLICATION:
		return "EV_EFI_BOOT_SERVICES_APPLICATION"
	case EV_EFI_BOOT_SERVICES_DRIVER:
		return "EV_EFI_BOOT_SERVICES_DRIVER"
	case EV_EFI_RUNTIME_SERVICES_DRIVER:
		return "EV_EFI_RUNTIME_SERVICES_DRIVER"
	case EV_EFI_GPT_EVENT:
		return "EV_EFI_GPT_EVENT"
	case EV_EFI_ACTION:
		return "EV_EFI_ACTION"
	case EV_EFI_PLATFORM_FIRMWARE_BLOB:
		return "EV_EFI_PLATFORM_FIRMWARE_BLOB"
	case EV_EFI_HANDOFF_TABLES:
		return "EV_EFI_HANDOFF_TABLES"
	case EV_EFI_PLATFORM_FIRMWARE_BLOB2:
		return "EV_EFI_PLATFORM_FIRMWARE_BLOB2"
	case EV_EFI_HANDOFF_TABLES2:
		return "EV_EFI_HANDOFF_TABLES2"
	case EV_EFI_VARIABLE_BOOT2:
		return "EV_EFI_VARIABLE_BOOT2"
	case EV_EFI_GPT_EVENT2:
		return "EV_EFI_GPT_EVENT2"
	case EV_EFI_HCRTM_EVENT:
		return "EV_EFI_HCRTM_EVENT"
	case EV_EFI_VARIABLE_AUTHORITY:
		return "EV_EFI_VARIABLE_AUTHORITY"
	case EV_EFI_SPDM_FIRMWARE_BLOB:
		return "EV_EFI_SPDM_FIRMWARE_BLOB"
	case EV_EFI_SPDM_FIRMWARE_CONFIG:
		return "EV_EFI_SPDM_FIRMWARE_CONFIG"
	case EV_EFI_SPDM_DEVICE_POLICY:
		return "EV_EFI_SPDM_DEVICE_POLICY"
	case EV_EFI_SPDM_DEVICE_AUTHORITY:
		return "EV_EFI_SPDM_DEVICE_AUTHORITY"
	}
	return ""
}

// TcgDigest is a digest and its algorithm.
type TcgDigest struct {
	AlgID TCG_ALG
	Hash  []byte
}

// TcgEventFormat is the form of an event.
type TcgEventFormat string

// Forms of events; here it is always TCG_PCCLIENT_FORMAT.
const (
	TCG_PCCLIENT_FORMAT  TcgEventFormat = "tcg_pcclient"
	TCG_CANONICAL_FORMAT TcgEventFormat = "tcg_canonical"
)

// FormatedTcgEvent is an event of the event log.
type FormatedTcgEvent interface {
	Dump()
	GetFormatType() TcgEventFormat
	GetImrIndex() uint32
	GetEventType() TcgEventType
	GetDigests() []TcgDigest
}

// TcgImrEvent is an event with TCG_PCR_EVENT2's members; ImrIndex 3 is the container
// register.
type TcgImrEvent struct {
	ImrIndex   uint32
	EventType  TcgEventType
	Digests    []TcgDigest
	EventSize  uint32
	Event      []byte
	FormatType TcgEventFormat
}

// GetDigests returns the digests.
func (e *TcgImrEvent) GetDigests() []TcgDigest { return e.Digests }

// GetEventType returns the type.
func (e *TcgImrEvent) GetEventType() TcgEventType { return e.EventType }

// GetImrIndex returns the register's index.
func (e *TcgImrEvent) GetImrIndex() uint32 { return e.ImrIndex }

// GetFormatType returns TCG_PCCLIENT_FORMAT.
func (e *TcgImrEvent) GetFormatType() TcgEventFormat { return e.FormatType }

// Dump logs the event.
func (e *TcgImrEvent) Dump() {
	line("Event log entry")
	line(fmt.Sprintf("IMR               : %d", e.ImrIndex))
	line(fmt.Sprintf("Type              : 0x%X (%v)", uint32(e.EventType), e.EventType))
	for i, d := range e.Digests {
		line(fmt.Sprintf("Algorithm_id[%d]   : %d (%v)", i, d.AlgID, d.AlgID))
		line(fmt.Sprintf("Digest[%d]:", i))
		dump(d.Hash)
	}
	line("Event:")
	dump(e.Event)
}
