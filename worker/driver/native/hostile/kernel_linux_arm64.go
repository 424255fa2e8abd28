package hostile

// setrlimit has no number of its own here: prlimit64 is the only one, and stands in for it.
const setrlimit uintptr = 164

func kernelProbesArch() []Probe { return nil }

// foreign has no gate to go through: 32-bit calls are made by 32-bit programs only.
func foreign() int { return foreignUnknown }
