package egress

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what is read of an environment's connections.
const (
	maxReset = 256
	maxTable = 1 << 20
)

// connections are those that an environment has by its device, as its kernel sees them.
func connections(pid int) []flow {
	var all []flow
	for _, name := range []string{"tcp", "tcp6"} {
		file, err := os.Open("/proc/" + strconv.Itoa(pid) + "/net/" + name)
		if err != nil {
			continue // it has ended
		}
		b, err := io.ReadAll(io.LimitReader(file, maxTable))
		_ = file.Close()
		if err == nil {
			all = append(all, readConnections(string(b))...)
		}
	}
	return all[:min(len(all), maxReset)]
}

// readConnections reads /proc/net/tcp or tcp6.
func readConnections(table string) []flow {
	// Established, both waits of who ended first, both of who ended last, closing.
	standing := []string{"01", "04", "05", "08", "09", "0B"}
	var all []flow
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !slices.Contains(standing, fields[3]) {
			continue
		}
		here, there := readEnd(fields[1]), readEnd(fields[2])
		if here.IsValid() && there.IsValid() && (here.Addr() == Own || here.Addr() == OwnSix) {
			all = append(all, flow{here, there})
		}
	}
	return all
}

// readEnd reads an address as the kernel writes it: words of its own order, in hex, and a port.
func readEnd(text string) netip.AddrPort {
	words, number, ok := strings.Cut(text, ":")
	b, err := hex.DecodeString(words)
	port, wrong := strconv.ParseUint(number, 16, 16)
	if !ok || err != nil || wrong != nil || len(b) != 4 && len(b) != 16 {
		return netip.AddrPort{}
	}
	for i := 0; i < len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	addr, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port))
}
