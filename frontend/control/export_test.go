package control

import "github.com/nats-io/nats.go/jetstream"

// WrapFunctions has a started service see bucket functions through wrap, for what a test cannot provoke from outside.
func (s *Service) WrapFunctions(wrap func(jetstream.KeyValue) jetstream.KeyValue) {
	s.store.functions = wrap(s.store.functions)
}

// OperationNames are the names of all operations.
func OperationNames() []string {
	var names []string
	for _, op := range operations() {
		names = append(names, op.name)
	}
	return names
}
