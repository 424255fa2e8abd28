//go:build !linux || !(amd64 || arm64)

// Command hostile is a function for sandboxes of Linux alone.
package main

func main() {}
