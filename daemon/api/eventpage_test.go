package api

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// eventful is a container with a launch and so many events of its own.
func eventful(t *testing.T, f *fixture, id string, events int) *subject {
	t.Helper()
	add := func(op string, instance string, measured any) {
		t.Helper()
		if _, err := f.ledger.Append(t.Context(), ledger.Event{Operation: op, Owner: id, Instance: instance, Measured: measured}); err != nil {
			t.Fatal(err)
		}
	}
	add(logs.OpLaunch, "first", map[string]string{"args": "x"})
	add(logs.OpExtend, "first", logs.ExtendBody{Domain: "a", Operation: "b", Content: "of the instance before"})
	add(logs.OpExit, "first", nil)
	add(logs.OpLaunch, "second", map[string]string{"args": "y"})
	for i := range events - 1 {
		add(logs.OpExtend, "second", logs.ExtendBody{Domain: "domain", Operation: "operation", Content: fmt.Sprint("content <", i)})
	}
	i := f.containers.Use(peer.Container{ID: id, Name: id}, 1, 0)
	f.api.Containers = knownFacts{f.api.Containers, &containers.Facts{Instance: "second"}}
	return &subject{owner: id, instance: i, checkSame: nil}
}

func (f *fixture) page(s *subject, start, count int) (page rpc.CCEventLog) {
	f.t.Helper()
	encoded, err := f.api.ccEventLog(f.t.Context(), s, rpc.CCEventLogParams{Start: start, Count: count})
	if err != nil {
		f.t.Fatal(err)
	}
	text, err := encoded.AppendJSON(nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := canonical.Check(text); err != nil {
		f.t.Fatalf("%s: %v", text, err)
	}
	if err := json.Unmarshal(text, &page); err != nil {
		f.t.Fatal(err)
	}
	return page
}

// Every page is a piece of one and the same log, from memory or not, of an
// instance that grows, and replays to the container register.
func TestPagesOfOwnEvents(t *testing.T) {
	f := newFixture(t, func(c *config.Config) { c.Limits.Reply = 20_000 })
	s, other := eventful(t, f, "one", 300), eventful(t, f, "other", 3)
	read := func(s *subject) (all []rpc.EventRecord) {
		for start := 0; ; {
			page := f.page(s, start, 0)
			all = append(all, page.Events...)
			if page.Next == 0 {
				if len(all) != page.Total {
					t.Fatalf("%d records of %d", len(all), page.Total)
				}
				return all
			}
			start = page.Next
		}
	}
	boot := f.api.bootChunk.count()
	random := rand.New(rand.NewPCG(1, 1))
	for round := range 3 {
		if round == 2 {
			if _, err := f.ledger.Append(t.Context(), ledger.Event{Operation: logs.OpExtend, Owner: "one", Instance: "second", Measured: logs.ExtendBody{Domain: "a", Operation: "b", Content: "more"}}); err != nil {
				t.Fatal(err)
			}
		}
		all := read(s)
		if want := boot + 300 + round/2; len(all) != want {
			t.Errorf("round %d: %d records, not %d", round, len(all), want)
		}
		at, err := f.ledger.Snapshot("one")
		if err != nil {
			t.Fatal(err)
		}
		if got := replayView(t, all)[3]; got != at.Owner.Register {
			t.Errorf("round %d: index 3 doesn't replay to the container register", round)
		}
		for range 200 {
			start, count := random.IntN(len(all)), 1+random.IntN(100)
			page := f.page(s, start, count)
			for i, r := range page.Events {
				if fmt.Sprint(r) != fmt.Sprint(all[start+i]) {
					t.Fatalf("record %d of the page from %d: %+v", i, start, r)
				}
			}
			if len(page.Events) == 0 || page.Next != 0 && page.Next != start+len(page.Events) {
				t.Fatalf("page from %d: %d records, next %d", start, len(page.Events), page.Next)
			}
		}
	}
	if n := len(read(other)); n != boot+3 {
		t.Errorf("another container has %d records", n)
	}
	if f.page(s, boot+301, 0).Next != 0 {
		t.Error("behind the end")
	}
	// Relaunched: the log of the instance that asked is gone.
	if _, err := f.ledger.Append(t.Context(), ledger.Event{Operation: logs.OpLaunch, Owner: "one", Instance: "third", Measured: struct{}{}}); err != nil {
		t.Fatal(err)
	}
	if p, err := f.api.ccEventLog(t.Context(), s, rpc.CCEventLogParams{Start: boot}); err != ledger.ErrReplaced {
		t.Errorf("of an instance that is over: %+v, %v", p, err)
	}
}

// Cached chunks have a bound. Beyond it the chunk that was used longest ago is
// evicted.
func TestCachedChunksHaveABound(t *testing.T) {
	var cache chunkCache
	made := 0
	get := func(owner string, n int) {
		t.Helper()
		c, err := cache.get(chunkKey{owner: owner}, n, func() (*chunk, error) {
			made++
			c := &chunk{text: make([]byte, 1<<20)}
			c.ends = make([]int, n)
			return c, nil
		})
		if err != nil || c.count() < n {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		get(fmt.Sprint(i), 1)
		get("often", 2)
	}
	if made != 101 || cache.size > maxCachedBytes || len(cache.byKey) != cache.used.Len() || cache.used.Len() != 16 {
		t.Errorf("made %d, %d bytes, %d and %d cached", made, cache.size, len(cache.byKey), cache.used.Len())
	}
	get("often", 3) // it has grown
	get("often", 2)
	if made != 102 || cache.used.Len() != 16 {
		t.Errorf("grown: made %d, %d cached", made, cache.used.Len())
	}
}

// knownFacts are containers whose facts are known; nil: they are being measured.
type knownFacts struct {
	Containers
	facts *containers.Facts
}

func (k knownFacts) FactsNow(*containers.Instance) *containers.Facts { return k.facts }

func (k knownFacts) Facts(ctx context.Context, _ *containers.Instance, _ func(context.Context) error) (*containers.Facts, error) {
	if k.facts == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return k.facts, nil
}

// Logs are encoded once, however often they are read: a record of a log of 10,004 events
// whose contents have 200 bytes costs no more than one of 1,004, also if two are read at once.
func TestChunksOfALogAreCached(t *testing.T) {
	for _, events := range []int{1_004, 10_004} {
		t.Run(fmt.Sprint(events), func(t *testing.T) { chunksOfALogAreCached(t, events) })
	}
}

func chunksOfALogAreCached(t *testing.T, events int) {
	var cache chunkCache
	encoded := 0
	content := strings.Repeat("c", 200)
	for n := range 6 {
		owner := []string{"one", "other"}[n%2]
		for number := range (events + chunkRecords - 1) / chunkRecords {
			_, err := cache.get(chunkKey{owner, "instance", number}, chunkRecords, func() (*chunk, error) {
				encoded++
				c := new(chunk)
				for i := range chunkRecords {
					measured := fmt.Appendf(nil, `{"extend":{"content":%q,"domain":"bench","operation":"event"}}`, content)
					c.add(rpc.EventRecord{RecNum: number*chunkRecords + i, IMRIndex: 3, EventType: 6, EventSize: len(measured), Event: measured,
						Digests:   []rpc.EventDigest{{AlgoID: rpc.AlgoSHA384, Hash: make([]byte, 48)}},
						ExtraInfo: map[string]string{"rtmr3_digest": strings.Repeat("0", 96)}})
				}
				return c, nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if want := 2 * ((events + chunkRecords - 1) / chunkRecords); encoded != want {
		t.Errorf("%d chunks were encoded, want %d; %d bytes are held", encoded, want, cache.size)
	}
}
