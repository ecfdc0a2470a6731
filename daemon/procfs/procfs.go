//go:build linux

// Package procfs answers: what does the kernel show of processes and mounts?
//
// It reads /proc and the descriptors that stand for its entries. A pid may be
// given to another process at any moment, and a path may lead elsewhere at any
// moment. So what is read of a process is proved afterwards by its pidfd
// (Alive), and a path is opened component by component (OpenBelow).
package procfs
