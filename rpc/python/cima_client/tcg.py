"""tcg answers: which numbers does the TCG give algorithms and events?

TCG Algorithm Registry; PC Client Platform Firmware Profile.
"""

from __future__ import annotations

import enum


class Algorithm(enum.IntEnum):
    """Algorithms. Digests are in TPM_ALG_SHA384."""

    TPM_ALG_ERROR = 0x0
    TPM_ALG_RSA = 0x1
    TPM_ALG_SHA1 = 0x4
    TPM_ALG_SHA256 = 0xB
    TPM_ALG_SHA384 = 0xC
    TPM_ALG_SHA512 = 0xD
    TPM_ALG_ECDSA = 0x18


class EventType(enum.IntEnum):
    """Types of events. An own event of a container is an EV_EVENT_TAG."""

    EV_PREBOOT_CERT = 0x0
    EV_POST_CODE = 0x1
    EV_UNUSED = 0x2
    EV_NO_ACTION = 0x3
    EV_SEPARATOR = 0x4
    EV_ACTION = 0x5
    EV_EVENT_TAG = 0x6
    EV_S_CRTM_CONTENTS = 0x7
    EV_S_CRTM_VERSION = 0x8
    EV_CPU_MICROCODE = 0x9
    EV_PLATFORM_CONFIG_FLAGS = 0xa
    EV_TABLE_OF_DEVICES = 0xb
    EV_COMPACT_HASH = 0xc
    EV_IPL = 0xd
    EV_IPL_PARTITION_DATA = 0xe
    EV_NONHOST_CODE = 0xf
    EV_NONHOST_CONFIG = 0x10
    EV_NONHOST_INFO = 0x11
    EV_OMIT_BOOT_DEVICE_EVENTS = 0x12
    EV_POST_CODE2 = 0x13
    IMA_MEASUREMENT_EVENT = 0x14
    EV_EFI_EVENT_BASE = 0x80000000
    EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
    EV_EFI_VARIABLE_BOOT = 0x80000002
    EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
    EV_EFI_BOOT_SERVICES_DRIVER = 0x80000004
    EV_EFI_RUNTIME_SERVICES_DRIVER = 0x80000005
    EV_EFI_GPT_EVENT = 0x80000006
    EV_EFI_ACTION = 0x80000007
    EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
    EV_EFI_HANDOFF_TABLES = 0x80000009
    EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000a
    EV_EFI_HANDOFF_TABLES2 = 0x8000000b
    EV_EFI_VARIABLE_BOOT2 = 0x8000000c
    EV_EFI_GPT_EVENT2 = 0x8000000d
    EV_EFI_HCRTM_EVENT = 0x80000010
    EV_EFI_VARIABLE_AUTHORITY = 0x800000e0
    EV_EFI_SPDM_FIRMWARE_BLOB = 0x800000e1
    EV_EFI_SPDM_FIRMWARE_CONFIG = 0x800000e2
    EV_EFI_SPDM_DEVICE_POLICY = 0x800000e3
    EV_EFI_SPDM_DEVICE_AUTHORITY = 0x800000e4


def name_of(numbers: type[enum.IntEnum], number: int) -> str:
    """The name of a number, "UNKNOWN" if it has none."""
    try:
        return numbers(number).name
    except ValueError:
        return "UNKNOWN"
