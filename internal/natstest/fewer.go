package natstest

// Fewer is n, or few under the race detector: where a test proves by numbers, the plain run has proved the large ones.
func Fewer(n, few int) int {
	if Raced {
		return few
	}
	return n
}
