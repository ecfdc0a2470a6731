package collateraltest

import (
	"net/http"
	"sync"
	"sync/atomic"
)

// front stands before a service: it counts what is asked, and may answer instead.
type front struct {
	Asked atomic.Int64 // requests

	mu     sync.Mutex
	before func(w http.ResponseWriter, r *http.Request) bool
}

// SetBefore sets what answers instead of the service, if it returns true; nil is nothing.
func (f *front) SetBefore(before func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

// answered counts a request, and reports whether it was answered instead of the service.
func (f *front) answered(w http.ResponseWriter, r *http.Request) bool {
	f.Asked.Add(1)
	f.mu.Lock()
	before := f.before
	f.mu.Unlock()
	return before != nil && before(w, r)
}
