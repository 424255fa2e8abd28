// Command service serves package records on loopback: the example's records of customers, for functions of a `hearth up` on this host.
// The README beside it has the commands.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hearth-run/hearth/examples/tenant/records"
)

func main() {
	log.SetFlags(0)
	listen := flag.String("listen", "127.0.0.1:7000", "address to serve on")
	jwks := flag.String("jwks", "http://127.0.0.1:4280/.well-known/jwks.json", "where the keys of Hearth are")
	issuer := flag.String("issuer", "hearth", "issuer of its tokens, as `hearth fabric get issuer` says; hearth unless it was set")
	audience := flag.String("audience", "records", "this service's name, by which functions are deployed for it")
	account := flag.String("account", "default", "account of Hearth whose functions may come")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", *listen)
	if err == nil {
		log.Printf("records on http://%s, for functions of account %s that are deployed with --audience %s", l.Addr(), *account, *audience)
		err = serve(ctx, l, records.Config{JWKS: *jwks, Issuer: *issuer, Audience: *audience, Account: *account})
	}
	if err != nil {
		stop()
		log.Fatalf("records: %v", err)
	}
}

// serve answers until ctx ends, and then lets what is under way come to its end.
func serve(ctx context.Context, l net.Listener, cfg records.Config) error {
	tokens, err := records.NewVerifier(cfg)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	server := &http.Server{Handler: records.New(tokens), ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { // ends with the server
		done <- server.Serve(l)
	}()
	select {
	case err = <-done:
		return err
	case <-ctx.Done():
	}
	within, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = server.Shutdown(within)
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
