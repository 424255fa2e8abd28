//go:build !unix

package unpack

import "io/fs"

func single(fs.FileInfo) bool { return true }

func own(string, fs.FileInfo) error { return nil }

func noRoom(error) bool { return false }
