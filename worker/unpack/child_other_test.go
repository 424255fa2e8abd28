//go:build !linux

package unpack_test

func otherwise() {}
