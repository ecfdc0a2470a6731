//go:build linux

package hw

// KernelFiles are the real file operations, for trees of files in tests.
func KernelFiles() Files { return kernelFiles{} }
