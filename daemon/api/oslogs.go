package api

import (
	"encoding/base64"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/rpc"
)

// shownOSLog is the number of bytes of a run besides its entries.
const shownOSLog = int64(len(`{"register":"rtmr2","format":"ima-digests","entries":""},`))

// osLogs are the os_logs of evidence.
func (a *API) osLogs(s *subject, rtmr2 hw.Digest) ([]rpc.OSLog, error) {
	if a.OSLog == nil {
		return nil, nil
	}
	list, err := a.OSLog.Shown(rtmr2, s.cgroup(), a.Config().Isolation == config.IsolationNone)
	if err != nil {
		return nil, err
	}
	size := int64(0)
	for _, l := range list {
		size += shownOSLog + int64(base64.StdEncoding.EncodedLen(len(l.Entries)))
	}
	most := a.budget().OSLogs(&a.Config().Limits)
	if size > most/2 && !a.osLogWarned.Swap(true) {
		a.Log.Warn("the kernel's IMA log takes more than half of its share of evidence; raise limits.evidence_reply and restart", "bytes", size, "share", most)
	}
	if size > most {
		return nil, rpc.TooLarge(most, "the kernel's IMA log takes %d bytes of evidence, and must take at most %d: raise limits.evidence_reply", size, most)
	}
	return list, nil
}
