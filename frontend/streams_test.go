package frontend_test

import "github.com/nats-io/nats.go/jetstream"

func natsStream(name string, subjects ...string) jetstream.StreamConfig {
	return jetstream.StreamConfig{Name: name, Subjects: subjects, Storage: jetstream.MemoryStorage}
}
