package deploy

import (
	"slices"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// rights are what one user may publish and subscribe to; everything else is refused by the server. They are the table of
// SECURITY 6: streams and buckets are named one by one, so that one credential never reaches what another fabric, or
// somebody else, keeps on the same server.
type rights struct {
	names     subjects.Names
	publish   []string
	subscribe []string
}

// permissions is the form that nats-server takes.
func (r *rights) permissions() *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: slices.Clone(r.publish)},
		Subscribe: &server.SubjectPermission{Allow: slices.Clone(r.subscribe)},
	}
}

// own adds subjects of the fabric to those that may be published.
func (r *rights) own(rest ...string) {
	for _, s := range rest {
		r.publish = append(r.publish, r.names.Prefix()+"."+s)
	}
}

// listen adds subjects of the fabric to those that may be subscribed to.
func (r *rights) listen(rest ...string) {
	for _, s := range rest {
		r.subscribe = append(r.subscribe, r.names.Prefix()+"."+s)
	}
}

// inboxes are where answers go: of clients here, anonymous and named, of callers in other NATS accounts, of the fabric's nodes.
func (r *rights) inboxes() {
	r.publish = append(r.publish, "_INBOX.>", "_HC.>", "_R_.>", "_HF.>", "_HM.>", "_HW.>")
}

// stream adds requests to JetStream about a stream as a whole.
func (r *rights) stream(name string, verbs ...string) {
	for _, verb := range verbs {
		r.publish = append(r.publish, "$JS.API."+verb+"."+name)
	}
}

// consumers lets consumers of a stream be made, looked at and removed.
func (r *rights) consumers(stream string) {
	r.publish = append(r.publish,
		"$JS.API.CONSUMER.CREATE."+stream+".>", "$JS.API.CONSUMER.INFO."+stream+".*", "$JS.API.CONSUMER.DELETE."+stream+".*")
}

// asksOfItself lets the holder ask the server what it may do: `hearth doctor` compares. Not for clients and workers: the server's
// answer goes wherever they name.
func (r *rights) asksOfItself() { r.publish = append(r.publish, "$SYS.REQ.USER.INFO") }

// claims lets messages of a stream be pulled and acknowledged.
func (r *rights) claims(stream string) {
	r.publish = append(r.publish, "$JS.API.CONSUMER.MSG.NEXT."+stream+".*", "$JS.ACK."+stream+".>")
}

// reads lets a stream be read that deletes nothing by being read: a bucket, the code store, logs. An ordered consumer
// delivers to an inbox of the reader, and its flow control is answered on a subject of its own.
func (r *rights) reads(stream string) {
	r.stream(stream, "STREAM.INFO")
	r.consumers(stream)
	r.publish = append(r.publish,
		"$JS.API.DIRECT.GET."+stream, "$JS.API.DIRECT.GET."+stream+".>", "$JS.API.STREAM.MSG.GET."+stream, "$JS.FC."+stream+".>")
}

func (r *rights) readsBuckets() {
	for _, kind := range topology.Buckets() {
		r.reads(topology.BucketStream(r.names, kind))
	}
}

// writes lets keys of a bucket be written.
func (r *rights) writes(kind string, keys ...string) {
	for _, key := range keys {
		r.publish = append(r.publish, "$KV."+r.names.Bucket(kind)+"."+key)
	}
}

// putsCode lets packages be put into the code store: their pieces, their entry, and the removal of pieces of a put that
// failed half way.
func (r *rights) putsCode() {
	store, stream := r.names.Bucket(topology.Code), topology.CodeStream(r.names)
	r.stream(stream, "STREAM.INFO", "STREAM.PURGE")
	r.publish = append(r.publish, "$O."+store+".C.*", "$O."+store+".M.*", "$JS.API.DIRECT.GET."+stream+".$O."+store+".M.*")
}

// calls are all streams of calls: those of reserved arcs from the start, though they are made when needed.
func (r *rights) calls() []string {
	all := make([]string, 0, subjects.UnreservedStreams+subjects.MaxShards)
	for stream := range subjects.UnreservedStreams {
		all = append(all, r.names.CallsU(stream))
	}
	for shard := range subjects.MaxShards {
		all = append(all, r.names.CallsR(shard))
	}
	return all
}

// clientRights are those of whoever says nothing, on loopback: call functions of the default account, hear answers.
func clientRights(names subjects.Names) *rights {
	r := &rights{names: names}
	account := subjects.Escape(subjects.DefaultAccount)
	r.own("invoke."+account+".>", "event."+account+".>")
	r.subscribe = append(r.subscribe, "_INBOX.>")
	return r
}

// namedClientRights are those of a client with a credential: the same, and nobody else hears its answers.
func namedClientRights(names subjects.Names, name string) *rights {
	r := clientRights(names)
	r.subscribe = []string{subjects.ClientInbox(name, ">")}
	return r
}

// adminRights are those of the fabric's owner and of the command.
func adminRights(names subjects.Names) *rights {
	r := &rights{names: names}
	r.own("invoke.>", "event.>", "api.>", "bench.>")
	// The inboxes are for the echo against which `hearth bench` measures: it answers with the admin's credential.
	r.publish = append(r.publish, "$SRV.>", "_INBOX.>", "$JS.API.INFO")
	r.asksOfItself()
	r.putsCode()
	r.subscribe = append(r.subscribe, "_INBOX.>")
	r.listen("bench.>")
	return r
}

// measures adds what `hearth bench` needs in a fabric of its own: the streams of the plain twins, and a look at those that
// events pass.
func (r *rights) measures() {
	for _, kind := range topology.BenchStreams() {
		stream := r.names.Stream(kind)
		r.stream(stream, "STREAM.CREATE", "STREAM.INFO", "STREAM.DELETE")
		r.consumers(stream)
		r.claims(stream)
	}
	for _, stream := range []string{
		r.names.Events(subjects.DefaultAccount), r.names.Stream(topology.Retries), r.names.Stream(topology.DeadLetters),
	} {
		r.stream(stream, "STREAM.INFO")
	}
}

// frontendRights are those of frontend id.
func frontendRights(names subjects.Names, id string) *rights {
	r := &rights{names: names}
	r.own("arc.>", "status.frontend."+subjects.Escape(id), "status.ask", "m.*.ctl", "trace.>", "event.>", "retry.>", "dead.>")
	r.inboxes()
	r.asksOfItself()
	for _, calls := range r.calls() {
		r.stream(calls, "STREAM.INFO", "STREAM.MSG.GET", "STREAM.MSG.DELETE", "CONSUMER.LIST")
	}
	for _, events := range []string{names.Events(subjects.DefaultAccount), names.Stream(topology.Retries)} {
		r.stream(events, "STREAM.INFO", "STREAM.MSG.GET")
		r.consumers(events)
		r.claims(events)
	}
	r.stream(names.Events(subjects.DefaultAccount), "STREAM.MSG.DELETE") // of what belongs to no function, once it is buried
	dead := names.Stream(topology.DeadLetters)
	r.reads(dead)
	r.stream(dead, "STREAM.MSG.DELETE")
	r.reads(names.Stream(topology.Logs))
	r.reads(names.Stream(topology.Usage))
	r.readsBuckets()
	r.writes(topology.Functions, ">")
	r.writes(topology.Reservations, ">")
	r.writes(topology.Secrets, ">")
	r.writes(topology.Ring, schema.FabricKey)
	r.reads(topology.CodeStream(names))
	r.putsCode()
	r.listen("invoke.>", "api.>", "status.>", "trace.>")
	r.subscribe = append(r.subscribe, "$SRV.>", subjects.FrontendInbox(id, ">"), subjects.EventInbox(id, ">"))
	return r
}

// managerRights are those of manager id and of the worker in its process. Any manager may be the controller, and any may
// set the fabric up.
func managerRights(names subjects.Names, id string) *rights {
	r := &rights{names: names}
	r.own("arc.u.>", "open.>", "w.>", "m.>", "log.>", "usage.*."+subjects.Escape(id), "trace.>",
		"status.manager."+subjects.Escape(id))
	r.inboxes()
	r.asksOfItself()
	for _, calls := range r.calls() {
		r.stream(calls, "STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.INFO", "STREAM.PURGE", "STREAM.MSG.GET",
			"STREAM.MSG.DELETE", "CONSUMER.LIST", "CONSUMER.NAMES")
		r.consumers(calls)
		r.claims(calls)
	}
	for _, made := range []string{
		names.Events(subjects.DefaultAccount), names.Stream(topology.Retries), names.Stream(topology.DeadLetters),
		names.Stream(topology.Logs), names.Stream(topology.Usage), topology.CodeStream(names),
	} {
		r.stream(made, "STREAM.CREATE", "STREAM.UPDATE", "STREAM.INFO")
	}
	for _, kind := range topology.Buckets() {
		r.stream(topology.BucketStream(names, kind), "STREAM.CREATE", "STREAM.UPDATE")
	}
	r.readsBuckets()
	r.reads(topology.CodeStream(names))
	// Leases of workers it writes for those that are processes of their own (package fleet), each under the name of who asks.
	r.writes(topology.Members, schema.MemberPrefix+subjects.Escape(id), schema.ControllerKey, schema.WorkerPrefix+"*")
	r.writes(topology.Ring, schema.RingKey, schema.FabricKey)
	r.writes(topology.Reservations, ">")
	r.writes(topology.Arcs, ">")
	r.writes(topology.Limits, ">")
	r.writes(topology.Keys, schema.SealKeyName, schema.MemberPrefix+subjects.Escape(id))
	r.listen("m."+subjects.Escape(id)+".>", "status.>", "trace.>")
	r.subscribe = append(r.subscribe, subjects.ManagerInbox(id, ">"))
	return r
}

// workerRights are those of worker id, a process of its own: answers to callers, and what it says to managers. Nothing of that is
// answered by the server itself, which would write its answer wherever the worker, which may have been taken over, names; so
// nothing of JetStream is among it ([remote.Streams]). Other inboxes of frontends and managers are not for workers.
func workerRights(names subjects.Names, id string) *rights {
	r := &rights{names: names}
	r.publish = append(r.publish, "_INBOX.>", "_HC.>", "_R_.>", "_HF.*."+subjects.AnswerKind+".>", subjects.ManagerAny(id))
	r.listen("w." + subjects.Escape(id) + ".>")
	r.subscribe = append(r.subscribe, subjects.WorkerInbox(id, ">"))
	return r
}
