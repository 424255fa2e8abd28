//go:build !unix

package doctor

func kernelRelease() string { return "" }

func descriptors() uint64 { return 0 }

func writable(string) error { return nil }
