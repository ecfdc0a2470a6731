//go:build race

package verify

// raced: the race detector takes memory of its own.
const raced = true
