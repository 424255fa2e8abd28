//go:build race

package schema_test

// raceMemory is why memory is not limited: the detector maps shadow memory of its own as the program allocates.
const raceMemory = "the race detector maps memory of its own, which the limit would count"
