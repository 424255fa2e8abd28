package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/deploy"
)

// credentialOut is what `credential --json` prints.
type credentialOut struct {
	Role        string `json:"role"`
	ID          string `json:"id,omitempty"`
	Key         string `json:"key"` // public
	File        string `json:"file"`
	InboxPrefix string `json:"inbox_prefix,omitempty"`
}

func (a *app) credential() *cobra.Command {
	var data, out string
	var block bool
	cmd := &cobra.Command{
		Use:   "credential (manager ID | frontend ID | worker ID | client NAME | admin)",
		Short: "Make a credential for a role, a client or an admin",
		Long: `Make a credential, an nkey seed in a file that only its owner reads, and print the file's name. Each has the rights of its
role and id and no more: a manager's is of no use to another manager, a client's calls functions of account default and hears
answers at _HC.NAME alone. A client's file names that inbox prefix in a comment, so that --creds FILE is all that it needs here;
other NATS tools read the seed and have to be told the prefix. The one that is there already is given again.

For the fabric of a ` + "`hearth up`" + ` with its own NATS server it lies in --data, and a running one takes it in within two seconds;
removing the file ends it. For another NATS server --out names the file, and --print prints the user's block for that server's
configuration (the public key and its permissions: an entry of ` + "`authorization { users: [ … ] }`" + ` or of an account's users).`,
		Example: `  hearth credential manager m7 --data /var/lib/hearth
  hearth credential frontend f1 --out f1.nk --print >> users.conf
  hearth credential client shop --json`,
		GroupID:   groupFabric,
		Args:      between(1, "ROLE", "ID"),
		ValidArgs: credentialRoles,
		RunE: func(cmd *cobra.Command, args []string) error {
			role, id := args[0], strings.Join(args[1:], "")
			switch admin := role == deploy.RoleAdmin; {
			case !slices.Contains(credentialRoles, role):
				return usagef("there is no role %q%s; they are %s", role, didYouMean(role, credentialRoles), strings.Join(credentialRoles, ", "))
			case admin && id != "":
				return usagef("an admin has no name; leave %q out", id)
			case out != "" && a.settings.source["data"] == "flag": // HEARTH_DATA may stand there for `up`
				return usagef("--data is for the fabric of a `hearth up`, and --out for another NATS server: leave one of them out")
			case !admin && !deploy.ValidID(id):
				return usagef("the id of a %s is %q; %s", role, id, deploy.AnID)
			}
			c, err := deploy.MakeCredential(deploy.CredentialConfig{
				Role: role, ID: id, Prefix: cmd.Flag("prefix").Value.String(), DataDir: data, Out: out,
			})
			if err != nil {
				return inFlags(err)
			}
			if file, err := filepath.Abs(c.File); err == nil {
				c.File = file
			}
			switch {
			case asJSON(cmd):
				return a.printJSON(credentialOut{c.Role, c.ID, c.Key, c.File, c.InboxPrefix()})
			case block:
				a.println(strings.TrimSuffix(c.Block(), "\n"))
			default:
				a.println(c.File)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&data, "data", deploy.DefaultDataDir, "data folder of the hearth up whose NATS server it is for")
	flags.StringVar(&out, "out", "", "file to write the seed to, for another NATS server")
	flags.BoolVar(&block, "print", false, "print the user's block for the configuration of a NATS server")
	jsonFlag(cmd)
	return cmd
}

var credentialRoles = []string{deploy.RoleManager, deploy.RoleFrontend, deploy.RoleWorker, deploy.RoleClient, deploy.RoleAdmin}
