//go:build linux

package hw

import (
	"crypto/sha512"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Layout of a TDREPORT (Intel TDX Module ABI, TDREPORT_STRUCT), in bytes.
const (
	reportSize = 1024
	reportData = 128
	reportMRTD = 528
	reportRTMR = 720
)

// getReport0 is TDX_CMD_GET_REPORT0, _IOWR('T', 1, struct tdx_report_req)
// (linux/tdx-guest.h): 64 bytes of report data, then the TDREPORT.
const getReport0 = 0xc4405401

// tdReport asks the driver at path for a TDREPORT over data.
func tdReport(path string, data ReportData) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	request := new([64 + reportSize]byte)
	copy(request[:], data[:])
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), getReport0, uintptr(unsafe.Pointer(request)))
	if errno != 0 {
		return nil, errno
	}
	return request[64:], nil
}

// readingData is the report data of reports that are made for their registers
// only. No claims hash to it.
func readingData() ReportData {
	return sha512.Sum512([]byte("cima reads its registers"))
}

// report gets a TDREPORT over data from the device, and checks its form.
func (t *TDX) report(data ReportData) ([]byte, error) {
	report, err := t.tdReport(t.device(), data)
	if err != nil {
		return nil, NewError(OpReport, t.device(), err)
	}
	if len(report) != reportSize || ReportData(report[reportData:][:64]) != data {
		return nil, NewError(OpReport, t.device(), fmt.Errorf("%w: %d bytes that are no TDREPORT over the data given", ErrMalformed, len(report)))
	}
	return report, nil
}

func reportRegisters(report []byte) (registers Registers) {
	registers.MRTD = Digest(report[reportMRTD:][:48])
	for i := range registers.RTMR {
		registers.RTMR[i] = Digest(report[reportRTMR+48*i:][:48])
	}
	return registers
}
