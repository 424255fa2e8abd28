package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// answerWait bounds the wait for one answer. What a credential may not ask is known at once.
const answerWait = 3 * time.Second

// Inbox is where a holder of a credential of this role may hear answers; "" is where NATS has them, or where its file says.
func Inbox(role, id string) string {
	switch role {
	case deploy.RoleManager:
		return subjects.ManagerInbox(id, "doctor")
	case deploy.RoleFrontend:
		return subjects.FrontendInbox(id, "doctor")
	case deploy.RoleWorker:
		return subjects.WorkerInbox(id, "doctor")
	}
	return ""
}

// FabricConfig says what is looked at.
type FabricConfig struct {
	URL      string
	Role, ID string   // whose credential the connection has
	Data     string   // data folder of its `hearth up`, where that is on this host; "" else
	Openings []string // of that one
}

// LookAtFabric looks at what a connection reaches, which stays the caller's and whose own inboxes are [Inbox]. It changes nothing:
// it asks, and subscribes to what it gives back at once. An error is that ctx ended, or the connection did.
func LookAtFabric(ctx context.Context, c *client.Client, cfg FabricConfig) (*Fabric, error) {
	nc := c.Conn()
	f := &Fabric{URL: cfg.URL, Role: cfg.Role, ID: cfg.ID, Openings: cfg.Openings, Version: nc.ConnectedServerVersion(), MaxPayload: nc.MaxPayload()}
	f.JetStream, _ = nc.ConnectedServerJetStream()
	for range 3 { // the quickest: the others waited for something here
		trip, err := nc.RTT()
		if err != nil {
			return nil, err
		}
		if f.RoundTrip == 0 || trip < f.RoundTrip {
			f.RoundTrip = trip
		}
	}
	f.lookAtRights(ctx, nc)
	if f.Rights == nil {
		_, subscribe, err := deploy.Rights(c.Names(), cfg.Role, cfg.ID)
		if err != nil {
			return nil, err
		}
		f.Probed = probe(nc, c.Names(), subscribe)
	}
	f.lookAtLimits(ctx, nc)
	if cfg.Role == deploy.RoleAdmin {
		f.lookAtNodes(ctx, c)
	}
	if cfg.Data != "" {
		f.Folder = cfg.Data
		f.Disk, f.Room = deploy.DiskSpace(cfg.Data)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return f, nil
}

// errDenied says that a credential may not ask.
var errDenied = errors.New("not allowed")

// ask asks a question of the server. The server says before its next pong what may not be asked.
func ask(ctx context.Context, nc *nats.Conn, subject string, into any) error {
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // of no use any more, whatever it says
	if err := nc.PublishRequest(subject, sub.Subject, nil); err != nil {
		return err
	}
	if err := nc.FlushTimeout(answerWait); err != nil {
		return err
	}
	if denied(nc, subject) || denied(nc, sub.Subject) {
		return errDenied
	}
	ctx, cancel := context.WithTimeoutCause(ctx, answerWait, errors.New("the server does not answer"))
	defer cancel()
	m, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return json.Unmarshal(m.Data, into)
}

// denied reports whether the last thing that the server refused is what was done with a subject.
func denied(nc *nats.Conn, subject string) bool {
	err := nc.LastError()
	return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+subject+`"`)
}

// lookAtRights asks what this user may do, and the time.
func (f *Fabric) lookAtRights(ctx context.Context, nc *nats.Conn) {
	var info struct {
		Server struct {
			Time time.Time `json:"time"`
		} `json:"server"`
		Data *struct {
			User        string  `json:"user"`
			Permissions *Rights `json:"permissions"`
		} `json:"data"`
	}
	before := time.Now()
	if err := ask(ctx, nc, "$SYS.REQ.USER.INFO", &info); err != nil || info.Data == nil {
		return
	}
	if info.Data.Permissions == nil {
		info.Data.Permissions = &Rights{} // everything
	}
	f.Rights = info.Data.Permissions
	if took := time.Since(before); !info.Server.Time.IsZero() && took < slightSkew {
		ahead := info.Server.Time.Sub(before.Add(took / 2))
		f.Ahead = &ahead
	}
}

func (f *Fabric) lookAtLimits(ctx context.Context, nc *nats.Conn) {
	var info struct {
		Memory    int64 `json:"memory"`
		Storage   int64 `json:"storage"`
		Streams   int64 `json:"streams"`
		Consumers int64 `json:"consumers"`
		Limits    struct {
			Memory    int64 `json:"max_memory"`
			Storage   int64 `json:"max_storage"`
			Streams   int64 `json:"max_streams"`
			Consumers int64 `json:"max_consumers"`
		} `json:"limits"`
		Error *struct{} `json:"error"`
	}
	if !f.JetStream || ask(ctx, nc, "$JS.API.INFO", &info) != nil || info.Error != nil {
		return
	}
	f.Limits = &Limits{
		Memory: info.Limits.Memory, Store: info.Limits.Storage, Streams: info.Limits.Streams, Consumers: info.Limits.Consumers,
		MemoryUsed: info.Memory, StoreUsed: info.Storage, StreamsUsed: info.Streams, ConsumersUsed: info.Consumers,
	}
}

func (f *Fabric) lookAtNodes(ctx context.Context, c *client.Client) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerWait, errors.New("none answers"))
	defer cancel()
	ring, err := c.Ring(ctx, "")
	if f.Asked, f.NodesErr = err == nil || schema.CodeOf(err) != schema.CodeAccessDenied, err; err != nil {
		return
	}
	for _, m := range ring.Managers {
		f.Managers = append(f.Managers, Manager{ID: m.ID, State: m.State, Capacity: m.Capacity})
	}
}

// probe subscribes to what a role needs, and to what says that a credential may hear more: each for a moment, without looking.
func probe(nc *nats.Conn, names subjects.Names, subscribe []string) *Probes {
	refused := func(subject string) bool {
		sub, err := nc.SubscribeSync(subject)
		if err != nil {
			return true
		}
		_ = sub.Unsubscribe()
		return nc.FlushTimeout(answerWait) != nil || denied(nc, subject)
	}
	var p Probes
	for _, s := range subscribe {
		if refused(s) {
			p.Narrower = append(p.Narrower, s)
		}
	}
	for _, s := range []string{
		names.InvokeAll(), names.Prefix() + ".api.>", names.Prefix() + ".arc.>", names.Prefix() + ".w.>", "_HF.>", "_HM.>", "_HW.>",
		"$KV." + names.Bucket(topology.Secrets) + ".>", "$JS.EVENT.ADVISORY.>", "$SYS.>",
	} {
		if !slices.ContainsFunc(subscribe, func(w string) bool { return covers(w, s) }) && !refused(s) {
			p.Wider = append(p.Wider, s)
		}
	}
	return &p
}

// DataOf is the data folder of the `hearth up` that left an admin's credential, "" if there is none.
func DataOf(creds string) string {
	if creds == "" {
		return ""
	}
	return filepath.Dir(creds)
}
