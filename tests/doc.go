// Package tests holds the whole-system tests: they build and start the real binary, speak only HTTP
// and NATS to it, kill it, and ask `wellhead verify` whether everything that was sent is stored.
package tests
