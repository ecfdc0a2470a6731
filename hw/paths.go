//go:build linux

package hw

import (
	"cmp"
	"path/filepath"
	"strings"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
)

// paths are where the kernel's files are.
type paths struct{ sysRoot, devRoot, procRoot, etcRoot string }

func newPaths(o TDXOptions) paths {
	return paths{cmp.Or(o.SysRoot, "/sys"), cmp.Or(o.DevRoot, "/dev"), cmp.Or(o.ProcRoot, "/proc"), cmp.Or(o.EtcRoot, "/etc")}
}

func (p paths) sys(path string) string  { return filepath.Join(p.sysRoot, path) }
func (p paths) proc(path string) string { return filepath.Join(p.procRoot, path) }
func (p paths) dev(path string) string  { return filepath.Join(p.devRoot, path) }

func (p paths) device() string     { return p.dev("tdx_guest") }
func (p paths) snpDevice() string  { return p.dev("sev-guest") }
func (p paths) tpmDevice() string  { return p.dev("tpmrm0") }
func (p paths) assetTag() string   { return p.sys("class/dmi/id/chassis_asset_tag") }
func (p paths) attestConf() string { return filepath.Join(p.etcRoot, "tdx-attest.conf") }
func (p paths) bootLog() string    { return p.sys("firmware/acpi/tables/data/CCEL") }
func (p paths) bootTable() string  { return p.sys("firmware/acpi/tables/CCEL") }

// reports is the folder of configfs-tsm.
func (p paths) reports() string {
	return p.sys(strings.TrimPrefix(configfsi.TsmPrefix, "/sys") + "/report")
}

func (p paths) measurements() string { return p.sys("devices/virtual/misc/tdx_guest/measurements") }

// register is the file of a measurement register: mr is "mrtd" or "rtmr0"…"rtmr3".
func (p paths) register(mr string) string { return filepath.Join(p.measurements(), mr+":sha384") }
