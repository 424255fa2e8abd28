package deploy

import (
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/crypto/bcrypt"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/subjects"
)

// rights are what one role may publish and subscribe to (SECURITY 6). Streams are named one by one: a wildcard in the
// JetStream API would reach streams that are not the fabric's.
type rights struct{ publish, subscribe []string }

func (r rights) permissions() *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: r.publish},
		Subscribe: &server.SubjectPermission{Allow: r.subscribe},
	}
}

const maxShards = 64

// inboxes are where answers go: of clients, of callers in other NATS accounts, of the fabric's own roles.
func inboxes() []string { return []string{"_INBOX.>", "_R_.>", "_HF.>", "_HM.>", "_HW.>"} }

func clientRights(n subjects.Names, account string) rights {
	a := subjects.Escape(account)
	return rights{
		publish:   []string{n.Prefix() + ".invoke." + a + ".>", n.Prefix() + ".event." + a + ".>"},
		subscribe: []string{"_INBOX.>"},
	}
}

func adminRights(n subjects.Names) rights {
	p := n.Prefix()
	return rights{
		// An admin's process answers the requests of a measurement, so it may publish to inboxes of clients.
		publish: slices.Concat(
			[]string{p + ".invoke.>", p + ".event.>", p + ".api.>", p + ".bench.>", "$SRV.>", "_INBOX.>"},
			putCode(n),
		),
		subscribe: []string{"_INBOX.>", p + ".bench.>"},
	}
}

func frontendRights(n subjects.Names, id string) rights {
	p, f := n.Prefix(), subjects.Escape(id)
	publish := slices.Concat(
		[]string{p + ".arc.>", n.FrontendStatus(id), p + ".m.*.ctl", p + ".trace.>", p + ".event.>", p + ".retry.>", p + ".dead.>"},
		inboxes(), readBuckets(n), putCode(n), getCode(n),
		writeBucket(n, topology.Functions, ">"), writeBucket(n, topology.Reservations, ">"), writeBucket(n, topology.Secrets, ">"),
		writeBucket(n, topology.Ring, "fabric"),
		[]string{"$JS.API.INFO", "$JS.FC.>"},
	)
	for _, stream := range callStreams(n) {
		publish = append(publish, "$JS.API.STREAM.MSG.GET."+stream, "$JS.API.STREAM.MSG.DELETE."+stream, "$JS.API.STREAM.INFO."+stream,
			"$JS.API.CONSUMER.INFO."+stream+".*", "$JS.API.CONSUMER.LIST."+stream)
	}
	dead := n.Stream(topology.DeadLetters)
	publish = append(publish, "$JS.API.STREAM.MSG.GET."+dead, "$JS.API.STREAM.MSG.DELETE."+dead, "$JS.API.STREAM.INFO."+dead)
	for _, stream := range []string{n.Events(subjects.DefaultAccount), n.Stream(topology.Retries)} {
		publish = append(publish, consumerAPI(stream)...)
	}
	return rights{
		publish:   publish,
		subscribe: []string{p + ".invoke.>", p + ".api.>", p + ".status.>", p + ".trace.>", "$SRV.>", "_HF." + f + ".>"},
	}
}

// managerRights are those of a manager with its worker on the same connection.
func managerRights(n subjects.Names, id string) rights {
	p, m := n.Prefix(), subjects.Escape(id)
	publish := slices.Concat(
		[]string{p + ".arc.u.>", p + ".open.>", p + ".w.>", p + ".m.>", p + ".log.>", n.ManagerStatus(id)},
		inboxes(), readBuckets(n), getCode(n),
		writeBucket(n, topology.Members, "manager."+m), writeBucket(n, topology.Members, "controller"),
		writeBucket(n, topology.Ring, "ring"), writeBucket(n, topology.Ring, "fabric"), writeBucket(n, topology.Keys, ">"),
		writeBucket(n, topology.Reservations, ">"), writeBucket(n, topology.Arcs, ">"), writeBucket(n, topology.Limits, ">"),
		[]string{"$JS.API.INFO", "$JS.FC.>"},
	)
	for _, stream := range callStreams(n) {
		publish = append(publish, "$JS.API.STREAM.*."+stream, "$JS.API.STREAM.MSG.*."+stream)
		publish = append(publish, consumerAPI(stream)...)
	}
	for _, stream := range lasting(n) {
		publish = append(publish, "$JS.API.STREAM.CREATE."+stream, "$JS.API.STREAM.UPDATE."+stream, "$JS.API.STREAM.INFO."+stream)
	}
	return rights{
		publish:   publish,
		subscribe: []string{p + ".m." + m + ".>", p + ".status.>", p + ".trace.>", "_HM." + m + ".>"},
	}
}

// callStreams are all streams of calls that there may ever be.
func callStreams(n subjects.Names) []string {
	all := []string{n.CallsU()}
	for shard := range maxShards {
		all = append(all, n.CallsR(shard))
	}
	return all
}

// lasting are the streams behind buckets, the code store and the kinds that are one of their kind.
func lasting(n subjects.Names) []string {
	all := []string{"OBJ_" + n.Bucket(topology.Code), n.Stream(topology.Retries), n.Stream(topology.DeadLetters), n.Stream(topology.Logs),
		n.Events(subjects.DefaultAccount)}
	for _, b := range topology.Buckets() {
		all = append(all, "KV_"+n.Bucket(b))
	}
	return all
}

// consumerAPI is everything about consumers of a stream, their pulls and acknowledgements (in both forms of the subject).
func consumerAPI(stream string) []string {
	return []string{
		"$JS.API.CONSUMER.*." + stream, "$JS.API.CONSUMER.*." + stream + ".>", "$JS.API.CONSUMER.DURABLE.CREATE." + stream + ".*",
		"$JS.API.CONSUMER.MSG.NEXT." + stream + ".*", "$JS.ACK." + stream + ".>", "$JS.ACK.*.*." + stream + ".>",
	}
}

func readBuckets(n subjects.Names) []string {
	var all []string
	for _, b := range topology.Buckets() {
		all = append(all, readStream("KV_"+n.Bucket(b))...)
	}
	return all
}

func readStream(stream string) []string {
	return []string{
		"$JS.API.STREAM.INFO." + stream, "$JS.API.STREAM.MSG.GET." + stream, "$JS.API.DIRECT.GET." + stream,
		"$JS.API.DIRECT.GET." + stream + ".>", "$JS.API.CONSUMER.CREATE." + stream, "$JS.API.CONSUMER.CREATE." + stream + ".>",
		"$JS.API.CONSUMER.DELETE." + stream + ".*", "$JS.API.CONSUMER.INFO." + stream + ".*",
	}
}

func writeBucket(n subjects.Names, bucket, keys string) []string {
	return []string{"$KV." + n.Bucket(bucket) + "." + keys}
}

func getCode(n subjects.Names) []string { return readStream("OBJ_" + n.Bucket(topology.Code)) }

func putCode(n subjects.Names) []string {
	store := n.Bucket(topology.Code)
	return append(readStream("OBJ_"+store), "$O."+store+".>", "$JS.API.STREAM.PURGE.OBJ_"+store)
}

// unknownPassword is the hash of a password that nobody has: the user is for connections without one.
func unknownPassword() (string, error) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	hash, err := bcrypt.GenerateFromPassword(b[:], bcrypt.MinCost)
	if err != nil {
		return "", fmt.Errorf("make the anonymous client's password: %w", err)
	}
	return string(hash), nil
}
