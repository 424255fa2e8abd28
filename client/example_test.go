package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

// count stands in for a fabric that serves one function: it gives the URL of its NATS server.
func count() (url string, stop func(), err error) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
	if err != nil {
		return "", nil, err
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		return "", nil, errors.New("the NATS server does not start")
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		return "", nil, err
	}
	_, err = nc.Subscribe("hearth.invoke.default.*", func(m *nats.Msg) {
		a := answer(`{"words":5}`)
		if m.Subject != "hearth.invoke.default.count" {
			status, text := schema.ErrorHeaders(schema.Errorf(schema.CodeNotFound, "Function not found: %s", m.Subject))
			a = &nats.Msg{Header: nats.Header{schema.HeaderErrorCode: {status}, schema.HeaderError: {text}}}
		}
		a.Subject = m.Reply
		if err := nc.PublishMsg(a); err != nil {
			log.Print(err)
		}
	})
	return s.ClientURL(), func() {
		nc.Close()
		s.Shutdown()
		s.WaitForShutdown()
	}, errors.Join(err, nc.Flush())
}

func ExampleClient_Invoke() {
	url, stop, err := count()
	if err != nil {
		log.Fatal(err)
	}
	defer stop()

	ctx := context.Background()
	c, err := client.Connect(ctx, client.Options{URL: url})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	answer, err := c.Invoke(ctx, client.Call{
		Function: "count", Payload: []byte(`{"text":"so much depends upon a"}`), Timeout: 10 * time.Second,
	})
	if err != nil {
		log.Fatal(err) // refused: it did not start
	}
	fmt.Println(answer.Status(), string(answer.Payload), answer.Start, answer.Arc)
	// Output: ok {"words":5} cold u.17
}

// A refusal has a code; its row says whether to try again.
func ExampleClient_Invoke_refused() {
	url, stop, err := count()
	if err != nil {
		log.Fatal(err)
	}
	defer stop()

	ctx := context.Background()
	c, err := client.Connect(ctx, client.Options{URL: url})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	_, err = c.Invoke(ctx, client.Call{Function: "cuont"})
	switch code := schema.CodeOf(err); {
	case errors.Is(err, client.ErrNoAnswer):
		fmt.Println("it may still run")
	default:
		fmt.Println(code, code.Row().Status, code.Row().Retriable)
	}
	// Output: ResourceNotFoundException 404 false
}
