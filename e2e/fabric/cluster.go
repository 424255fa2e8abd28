package fabric

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// startCluster starts so many NATS servers that are one cluster, each known by its number: server-1, server-2, …
func startCluster(t testing.TB, n int, users ...string) []*Server {
	t.Helper()
	ports := make([]int, n)
	routes := make([]string, n)
	for i := range ports {
		ports[i] = freePort(t)
		routes[i] = fmt.Sprintf("nats://127.0.0.1:%d", ports[i])
	}
	servers := make([]*Server, n)
	for i := range servers {
		dir := t.TempDir()
		servers[i] = newServer(t, nil, serverConfig{
			name: fmt.Sprintf("server-%d", i+1), dir: dir, store: filepath.Join(dir, "store"), users: users,
			cluster: fmt.Sprintf("cluster { name: e2e, listen: \"127.0.0.1:%d\", routes: [%s] }\n", ports[i], strings.Join(routes, ", ")),
		})
	}
	for _, s := range servers {
		s.Start()
	}
	return servers
}

// ServerNamed is the server of the cluster with this name, as JetStream tells of leaders.
func (s *Spread) ServerNamed(name string) *Server {
	s.t.Helper()
	for _, server := range s.Servers {
		if server.ID == name {
			return server
		}
	}
	s.t.Fatalf("no server %q", name)
	return nil
}
