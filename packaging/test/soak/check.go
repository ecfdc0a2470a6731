package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

func newNonce() []byte {
	nonce := make([]byte, 32)
	rand.Read(nonce)
	return nonce
}

// evidence requests evidence, appraises it, and compares it with the answers
// that the container got.
func (c *container) evidence(shared bool) error {
	nonce := newNonce()
	a, err := c.call(order{Do: doEvidence, Nonce: nonce, Shared: shared})
	if err != nil || a.Error != "" {
		return err
	}
	c.appraise(a.Result, nonce)
	return nil
}

func (c *container) appraise(bundle []byte, nonce []byte) *verify.Result {
	v := c.b.tally.violate
	r, err := verify.Appraise(context.Background(), bundle, verify.Options{Nonce: nonce, TrustRoots: c.b.manager.roots})
	if err != nil {
		v("evidence of %.12s: %v", c.id, err)
		return nil
	}
	if r.Verdict != verify.NotTrusted { // authentic, and rightly not trusted: nothing vouches for what was booted
		v("evidence of %.12s is %s: %s", c.id, r.Verdict, r.Reason)
		return nil
	}
	if r.Claims.Container == nil || r.Claims.Container.ID != c.id {
		v("evidence of %.12s is about %+v", c.id, r.Claims.Container)
		return nil
	}
	e, _, err := rpc.DecodeEvidence(bundle)
	if err != nil {
		v("evidence of %.12s: %v", c.id, err)
		return nil
	}
	found := make(map[string]int)
	for _, entry := range e.RuntimeLog {
		if entry.Event == nil {
			continue
		}
		event, err := logs.ParseEvent(entry.Event)
		if err != nil {
			v("evidence of %.12s: %v", c.id, err)
			return nil
		}
		if event.Operation == logs.OpExtend {
			found[extendContent(event)]++
		}
	}
	c.compare("evidence", found)
	c.b.tally.count("evidences verified")
	return r
}

func extendContent(e logs.Event) string {
	var body struct{ Content string }
	json.Unmarshal(e.Body(), &body)
	return body.Content
}

// compare checks that a log has each acknowledged extend once, and no other.
func (c *container) compare(where string, found map[string]int) {
	for content := range c.acknowledged {
		if found[content] != 1 {
			c.b.tally.violate("%s of %.12s has the extend %q, which was acknowledged, %d times: it must be once", where, c.id, content, found[content])
		}
	}
	for content, n := range found {
		switch {
		case n > 1:
			c.b.tally.violate("%s of %.12s has the extend %q %d times", where, c.id, content, n)
		case c.refused[content]:
			c.b.tally.violate("%s of %.12s has the extend %q, which was refused", where, c.id, content)
		case !c.acknowledged[content] && !c.unknown[content]:
			c.b.tally.violate("%s of %.12s has the extend %q, which it never requested", where, c.id, content)
		}
	}
}

// registers requests register and event log: the log must replay to the
// register, unless an event was logged in between.
func (c *container) registers() error {
	before, err := c.register()
	if err != nil || before == nil {
		return err
	}
	var page rpc.CCEventLog
	a, err := c.call(order{Do: doEventLog})
	if err != nil || a.Error != "" {
		return err
	}
	after, err := c.register()
	if err != nil || after == nil || *after != *before {
		return err
	}
	if err := json.Unmarshal(a.Result, &page); err != nil {
		c.b.tally.violate("event log of %.12s: %v", c.id, err)
		return nil
	}
	if page.Next != 0 {
		return nil
	}
	var replay hw.Digest
	for _, r := range page.Events {
		if r.IMRIndex == 3 {
			replay = replay.Extend(hw.Digest(r.Digests[0].Hash))
		}
	}
	if replay != *before {
		c.b.tally.violate("event log of %.12s replays to %s, its register is %s", c.id, replay, *before)
	}
	c.b.tally.count("event logs replayed")
	return nil
}

// register is the container's register, nil if the request was refused.
func (c *container) register() (*rpc.Digest, error) {
	var m rpc.CCMeasurement
	a, err := c.call(order{Do: doMeasure})
	if err != nil || a.Error != "" {
		return nil, err
	}
	if err := json.Unmarshal(a.Result, &m); err != nil {
		c.b.tally.violate("register of %.12s: %v", c.id, err)
		return nil, nil
	}
	return &m.Hash, nil
}

// report requests a quote and checks that it is over the claims.
func (c *container) report(shared bool) error {
	nonce := newNonce()
	var r rpc.CCReport
	a, err := c.call(order{Do: doReport, Nonce: nonce, Shared: shared})
	if err != nil || a.Error != "" || json.Unmarshal(a.Result, &r) != nil {
		return err
	}
	if err := checkReport(r, nonce, c.id); err != nil {
		c.b.tally.violate("report of %.12s: %v", c.id, err)
	}
	c.b.tally.count("reports verified")
	return nil
}

func checkReport(r rpc.CCReport, nonce []byte, id string) error {
	var claims rpc.Claims
	if err := json.Unmarshal(r.Claims, &claims); err != nil {
		return err
	}
	data, err := rpc.ReportData(r.Claims)
	if err == nil && r.Shared != nil {
		data, err = r.Shared.ReportData(data)
	}
	if err != nil {
		return err
	}
	quote, err := dcap.ParseQuote(r.CCReport)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(quote.ReportData[:], data[:]):
		return fmt.Errorf("REPORTDATA is %s, and must be that of the claims", hex.EncodeToString(quote.ReportData[:8]))
	case !bytes.Equal(claims.Nonce, nonce) || claims.Container == nil || claims.Container.ID != id:
		return fmt.Errorf("claims must be about this container, not %+v", claims.Container)
	}
	return nil
}

// whoAmI checks that the daemon knows the caller.
func (c *container) whoAmI() error {
	var who rpc.Identity
	a, err := c.call(order{Do: doWhoAmI})
	if err != nil || a.Error != "" {
		return err
	}
	if err := json.Unmarshal(a.Result, &who); err != nil || who.Container == nil || who.Container.ID != c.id {
		c.b.tally.violate("%.12s is taken for %s: %v", c.id, a.Result, err)
	}
	return nil
}
