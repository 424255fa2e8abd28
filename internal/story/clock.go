package story

import (
	"encoding/hex"
	"hash/fnv"
	"os"
	"strings"
)

// bootID names a start of this kernel, and so its clock, the same for all processes and containers on it.
const bootID = "/proc/sys/kernel/random/boot_id"

// Clock names the clock of this host: the same for all of its processes. Where the system has no such name, the host's stands for it.
func Clock() string {
	text, err := os.ReadFile(bootID)
	if err != nil {
		host, _ := os.Hostname() // "" is a name too, if a bad one
		text = []byte(host)
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(strings.TrimSpace(string(text)))) // never fails
	return hex.EncodeToString(h.Sum(nil))
}
