//go:build !unix

package backup

// give lets files belong to whom the folder belongs: here they do.
func give(string, ...string) error { return nil }
