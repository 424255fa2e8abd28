// Package natstest gives a test the real thing: a nats-server in this process with JetStream in a folder of the test, the
// topology of a fabric on it, and connections that end with the test. One for each test is cheap: it starts in a few
// milliseconds and leaves no goroutine. Whatever cannot be had ends the test by Fatal; nothing is skipped. STYLE 9.
package natstest
