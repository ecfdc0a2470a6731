package containers

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/oslog"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// Instance is one start of a container: a writing of its record, and the inode of
// its cgroup. No answer about an instance is given before its launch and image are
// logged.
type Instance struct {
	Owner       string         // name of the container in the runtime log
	Container   peer.Container // as its record says
	inode       uint64
	CgroupOwner uint32
	Order       oslog.Order // of its event log

	users int       // connections, and 1 while it is known to run; under instances.mu
	first time.Time // when it was first seen

	measuring *semaphore.Weighted   // of 1: held while the instance is measured
	unsettled time.Time             // since when nobody can tell whether it has started unjudged; under measuring
	facts     atomic.Pointer[Facts] // nil until all is logged; set under measuring
}

// Facts are what claims say of an instance.
type Facts struct {
	LaunchDigest, DefaultsDigest rpc.Digest // zero for a launch that a daemon of evidence v1 wrote
	Image                        launch.Image
	Labels                       map[string]launch.Text // those that the configuration counts
	Pod                          launch.Pod             // zero where it is of none
	Metadata                     string                 // assurance.metadata
	Start                        string                 // assurance.start
	Source                       string                 // launch.source
	Instance                     string                 // name of the instance in the runtime log
	Power                        []string               // classes of power, each once, sorted; never nil
}

// instances are those that run or are connected.
type instances struct {
	mu        sync.Mutex
	byKey     map[instanceKey]*Instance
	unwatched []*Instance // of users' engines; measured, and not yet in the survey
}

type instanceKey struct {
	owner string
	inode uint64
}

func (is *instances) use(c peer.Container, inode uint64, cgroupOwner uint32) *Instance {
	is.mu.Lock()
	defer is.mu.Unlock()
	key := instanceKey{c.Owner(cgroupOwner), inode}
	i := is.byKey[key]
	if i == nil {
		i = &Instance{
			Owner: key.owner, Container: c, inode: inode, CgroupOwner: cgroupOwner,
			first: time.Now(), measuring: semaphore.NewWeighted(1),
		}
		is.byKey[key] = i
	}
	i.users++
	return i
}

// watch has the survey watch a measured instance of a user's engine until its end,
// because no record of it is listed.
func (is *instances) watch(i *Instance) {
	if i.Container.UID == 0 {
		return
	}
	is.mu.Lock()
	defer is.mu.Unlock()
	i.users++
	is.unwatched = append(is.unwatched, i)
}

// takeUnwatched returns the instances that the survey doesn't watch yet, each
// counted as used by the survey.
func (is *instances) takeUnwatched() []*Instance {
	is.mu.Lock()
	defer is.mu.Unlock()
	list := is.unwatched
	is.unwatched = nil
	return list
}

// release drops an instance without users. If somebody asks for it again, the
// runtime log holds what was known.
func (is *instances) release(i *Instance) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if i.users--; i.users == 0 {
		delete(is.byKey, instanceKey{i.Owner, i.inode})
	}
}

func (is *instances) count() int {
	is.mu.Lock()
	defer is.mu.Unlock()
	return len(is.byKey)
}

// newFacts computes the facts from the bytes of the launch and image events, which
// are canonical already.
func newFacts(launched, image jsontext.Value) (*Facts, error) {
	f := &Facts{Metadata: "bundle"}
	var l launch.Launch
	if err := errors.Join(json.Unmarshal(image, &f.Image), json.Unmarshal(launched, &l)); err != nil {
		return nil, err
	}
	f.Pod, f.Source = l.Pod, l.Source
	if l.Asked != nil {
		f.Labels = l.Asked.Labels
	}
	if l.Asked != nil || l.AskedSHA384 != "" || l.Source == logs.SourceNone {
		digest, err := launch.Digest(l, f.Image)
		if err != nil {
			return nil, err
		}
		defaults, err := launch.DefaultsDigest(l)
		if err != nil {
			return nil, err
		}
		f.LaunchDigest, f.DefaultsDigest = digest, defaults
	}
	if f.Image.Absent == "" {
		f.Metadata = "bundle+engine"
	}
	return f, nil
}
