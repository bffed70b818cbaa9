// Package wire is the protocol between a sidecar and its edge: frames and their bytes.
package wire
