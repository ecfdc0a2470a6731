//go:build linux

// Package procfs answers: how does one read a process, its mounts and its files,
// which may change meanwhile?
//
// It reads /proc and the descriptors that stand for its entries. A pid may be
// given to another process at any moment, and a path may lead elsewhere at any
// moment. So what is read of a process is proved afterwards by its pidfd
// (Alive), and a path is opened component by component (OpenBelow).
package procfs
