package frontend_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/frontend"
)

// A client's credential in the fabric's own NATS account is told of, once; who has NATS's
// ordinary inbox, as the admin does, is not.
func TestClientInTheFabricsAccount(t *testing.T) {
	t.Parallel()
	told := make(chan slog.Record, 64)
	b := setup(t, settings{config: func(c *frontend.Config) { c.Logger = slog.New(records(told)) }})
	ask := func(inbox string) {
		t.Helper()
		sub, err := b.caller.SubscribeSync(inbox)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.caller.PublishMsg(&nats.Msg{Subject: b.Names.Invoke("default", "nobody", ""), Reply: inbox}); err != nil {
			t.Fatal(err)
		}
		next(t, sub)
	}
	warned := func() (n int) {
		for {
			select {
			case r := <-told:
				if r.Level == slog.LevelWarn && strings.Contains(r.Message, "account of their own") {
					n++
				}
			default:
				return n
			}
		}
	}
	ask("_INBOX.x.1")
	if n := warned(); n != 0 {
		t.Errorf("%d warnings of a caller with an ordinary inbox", n)
	}
	ask("_HC.shop.1")
	ask("_HC.store.1")
	if n := warned(); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
}
