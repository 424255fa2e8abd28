package native

// Host is what this host has of what a sandbox takes, as far as it shows without building one; [Driver.Probe] proves it. It is for
// people: what is missing is told all at once, where Probe stops at the first thing. A refusal is nil where there is none.
type Host struct {
	Supported bool // the system and processor are ones that the sandbox is written for; else nothing below is known

	Root  bool  // this process may do what root may, as far as its user says
	Users error // the uids of environments cannot be used

	Seccomp  error
	Landlock int // version, 0 for none

	Namespaces map[string]error // refusals by name: mount, pid, net, ipc, uts, cgroup; not looked at unless root
	UserSpaces error            // refusal of a user namespace, which the sandbox does not need

	Cgroups     int      // version of the hierarchy that has the controllers, 0 for none
	Group       string   // this process's own group, below which environments would be; of memory, where each controller has one
	Controllers []string // that are missing there
	Writable    error    // a group cannot be made there; not looked at unless root
	Sockets     bool     // memory that sockets hold can be limited
	Swap        bool     // so can swap, or there is none
	Uncharged   bool     // the kernel was told not to charge for sockets (cgroup.memory=nosocket)

	Tun error // /dev/net/tun cannot be opened: functions reach no network
}

// NamespaceNames are the namespaces that a sandbox has, in the order in which people are told.
func NamespaceNames() []string { return []string{"mount", "pid", "net", "ipc", "uts", "cgroup"} }
