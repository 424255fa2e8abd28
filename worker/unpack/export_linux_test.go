package unpack

// ChildArgument is the first argument of a child.
const ChildArgument = childArgument

// Confine takes all rights from this process.
func Confine(uid uint32, memory, seconds uint64) error { return confine(uid, memory, seconds) }
