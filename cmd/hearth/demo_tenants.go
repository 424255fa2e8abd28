package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/examples/tenant/records"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
	"github.com/hearth-run/hearth/worker/egress"
)

// What the demo's two customers have to do with: the function, the service behind it, and themselves.
const (
	shopName     = "records"
	shopGeneric  = 1 // environments, ready for whoever comes
	customerA    = "acme"
	customerB    = "globex"
	shopIdle     = 30 * time.Second
	shopDeadline = 10 * time.Second
)

// shop is the service of records beside the fabric, on loopback, and the function that speaks to it. Its address is known before the
// fabric starts, which has to open it to functions; it serves when the fabric has keys.
type shop struct {
	example
	listener net.Listener
	server   *http.Server
	serving  conc.WaitGroup
}

func openShop() (*shop, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the demo's records: %w", err)
	}
	s := &shop{listener: l, example: example{name: shopName, runtime: "nodejs", work: "keep their records", pack: interpreted("tenant/nodejs", "node")}}
	if _, err := exec.LookPath("node"); err != nil {
		s.runtime, s.pack = "provided", built("tenant/provided-go")
	}
	return s, nil
}

// address is what functions list, and the fabric opens.
func (s *shop) address() string { return s.listener.Addr().String() }

// serve answers functions of the fabric with these keys.
func (s *shop) serve(httpURL string) error {
	tokens, err := records.NewVerifier(records.Config{
		JWKS: httpURL + "/.well-known/jwks.json", Issuer: subjects.DefaultPrefix, Audience: shopName, Account: subjects.DefaultAccount,
	})
	if err != nil {
		return err
	}
	s.server = &http.Server{Handler: records.New(tokens), ReadTimeout: shopDeadline, WriteTimeout: shopDeadline, IdleTimeout: shopIdle}
	s.serving.Go(func() { _ = s.server.Serve(s.listener) }) // until close
	return nil
}

func (s *shop) close(ctx context.Context) error {
	if s.server == nil {
		return s.listener.Close()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shopDeadline)
	defer cancel()
	err := s.server.Shutdown(ctx)
	s.serving.Wait()
	return err
}

// runTenants has two customers use one function: each finds its own record and is refused the other's, by what its environment's token
// says; and no environment serves both.
func (d *demo) runTenants(ctx context.Context, s *shop, packages <-chan packed) error {
	var p packed
	select {
	case p = <-packages:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	leave := func(why error) error {
		d.report.step(demoStep{Step: stepLeftOut, OK: true, Function: stepTenants, Detail: why.Error()})
		return nil
	}
	switch {
	case d.unsandboxed != nil:
		return leave(fmt.Errorf("customers are kept apart by the sandbox, which this host does not have: %w", d.unsandboxed))
	case errors.Is(p.err, errLeftOut):
		return leave(errors.New("neither node is installed, nor Go with the source tree"))
	}
	ctx, cancel := context.WithTimeout(ctx, demoStepTimeout)
	defer cancel()
	begin := time.Now()
	detail, err := d.serveCustomers(ctx, s, p)
	d.tell(stepTenants, s.name, begin, detail, err)
	return context.Cause(ctx)
}

func (d *demo) serveCustomers(ctx context.Context, s *shop, p packed) (detail string, err error) {
	if err = errors.Join(p.err, s.serve(d.fabric.HTTPURL)); err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(s.address())
	if err != nil {
		return "", err
	}
	dep := deployment{
		name: s.name, runtime: s.runtime, handler: "index.handler", memoryMB: schema.DefaultMemoryMB, timeout: shopDeadline, perTenant: true,
		egress: []string{s.address()}, audiences: []string{shopName}, variables: schema.Variables{"RECORDS": "http://" + net.JoinHostPort(egress.HostName, port)},
		publish: true, pack: p.pack, given: unsaidHandler,
	}
	begin := time.Now()
	deployed, err := dep.apply(ctx, d.client)
	if err != nil {
		return "", err
	}
	d.tell(stepDeploy, s.name, begin, fmt.Sprintf("%s, for customers, to %s; the service is at %s", s.runtime, s.work, s.address()), nil)
	const write, read = `{"id": "invoice-1", "record": {"total": 42}}`, `{"id": "invoice-1"}`
	own := theRecord(`{"total": 42}`)
	first, err := d.customer(ctx, s, doorNATS, customerA, deployed.Version, write, own)
	if err != nil {
		return "", err
	}
	second, err := d.customer(ctx, s, doorHTTP, customerA, deployed.Version, read, own)
	if err != nil {
		return "", err
	}
	// From now on an environment is ready for whoever comes: the next customer's call binds it.
	if _, err := d.client.Reserve(ctx, s.name, deployed.Version, shopGeneric); err != nil {
		return "", err
	}
	if _, err := d.untilReserved(ctx, s.name, deployed.Version, func(r *schema.ReservationOutput) bool { return r.Status == schema.ReservationReady }); err != nil {
		return "", err
	}
	other, err := d.customer(ctx, s, doorNATS, customerB, deployed.Version, read, refused)
	switch {
	case err != nil:
		return "", err
	case other.Environment == first.Environment || other.Environment == second.Environment:
		return "", fmt.Errorf("%s was served by %s's environment %s", customerB, customerA, other.Environment)
	case other.Start != schema.StartSpecialised:
		return "", fmt.Errorf("%s's first call was %s, and an environment was ready to be bound", customerB, other.Start)
	}
	return fmt.Sprintf("%s reads its record, %s is refused it: the service asks their tokens who they are; %s's call bound an environment that was ready",
		customerA, customerB, customerB), nil
}

// customer makes one call for a customer.
func (d *demo) customer(ctx context.Context, s *shop, door, tenant, version, payload string, check func(answer shopAnswer) (string, error)) (*client.Answer, error) {
	begin := time.Now()
	var answer *client.Answer
	var err error
	if door == doorHTTP {
		answer, err = d.callHTTPWith(ctx, s.name+":"+version, []byte(payload), http.Header{"X-Amz-Tenant-Id": {tenant}})
	} else {
		answer, err = d.client.Invoke(ctx, client.Call{Function: s.name, Qualifier: version, Tenant: tenant, Payload: []byte(payload)})
	}
	total := time.Since(begin)
	shown := ""
	var got shopAnswer
	switch {
	case err != nil:
	case answer.FunctionError != nil:
		err = fmt.Errorf("the function failed: %s: %.200s", answer.FunctionError.Type, answer.Payload)
	case answer.Tenant != tenant:
		err = fmt.Errorf("the answer is for %q", answer.Tenant)
	default:
		if err = json.Unmarshal(answer.Payload, &got); err == nil && got.Customer != tenant {
			err = fmt.Errorf("the function thinks that it works for %q", got.Customer)
		}
		if err == nil {
			shown, err = check(got)
		}
	}
	d.report.call(s.name, door, answer, shown, total, err)
	return answer, err
}

// shopAnswer is what the function answers: what the service said to it.
type shopAnswer struct {
	Customer string
	Status   int
	Record   json.RawMessage
	Error    string
}

// theRecord wants this one.
func theRecord(record string) func(shopAnswer) (string, error) {
	return func(a shopAnswer) (string, error) {
		var got, want any
		if a.Status != http.StatusOK || json.Unmarshal(a.Record, &got) != nil || json.Unmarshal([]byte(record), &want) != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			return "", fmt.Errorf("the service said %d %s%s, not the record %s", a.Status, a.Record, a.Error, record)
		}
		return "record invoice-1 is " + string(a.Record), nil
	}
}

// refused wants a refusal.
func refused(a shopAnswer) (string, error) {
	if a.Status != http.StatusNotFound || a.Record != nil {
		return "", fmt.Errorf("the service said %d %s, not 404", a.Status, a.Record)
	}
	return fmt.Sprintf("record invoice-1 is refused, %d: %s", a.Status, a.Error), nil
}
