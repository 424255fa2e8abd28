package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/schema"
)

func (a *app) fabric() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "fabric",
		Short:   "Show or change the numbers that all nodes share",
		Example: "  hearth fabric\n  hearth fabric get theta\n  hearth fabric set keep-alive=1m",
		GroupID: groupFabric,
		Args:    a.noSuchCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.getFabric(cmd, "") },
	}
	jsonFlag(cmd)
	get := &cobra.Command{
		Use:               "get [KEY]",
		Short:             "Show them, or one of them",
		Example:           "  hearth fabric get\n  hearth fabric get theta\n  hearth fabric get --json",
		Args:              between(0, "KEY"),
		ValidArgsFunction: completeFabricKey(""),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if err := knownFabricKey(args[0]); err != nil {
					return err
				}
			}
			return a.getFabric(cmd, strings.Join(args, ""))
		},
	}
	set := &cobra.Command{
		Use:               "set KEY=VALUE...",
		Short:             "Change them, all named ones or none",
		Example:           "  hearth fabric set reclaim=30s keep-alive=1m\n  hearth fabric set theta=0.9 --json",
		ValidArgsFunction: completeFabricKey("="),
		RunE: func(cmd *cobra.Command, args []string) error {
			values, err := fabricValues(args)
			if err != nil {
				return err
			}
			c, err := a.connect(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			out, err := c.SetFabric(cmd.Context(), values)
			if err != nil {
				return err
			}
			return a.printFabric(cmd, out)
		},
	}
	set.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s misses KEY=VALUE; use: %s", cmd.CommandPath(), cmd.UseLine())
		}
		return nil
	}
	jsonFlag(get)
	jsonFlag(set)
	cmd.AddCommand(get, set)
	return cmd
}

// getFabric shows one of the numbers, or with "" all.
func (a *app) getFabric(cmd *cobra.Command, key string) error {
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	out, err := c.Fabric(cmd.Context())
	switch {
	case err != nil:
		return err
	case key == "":
		return a.printFabric(cmd, out)
	case asJSON(cmd):
		return a.printJSON(map[string]string{key: out.Values[key]})
	}
	a.println(out.Values[key])
	return nil
}

// fabricValues reads KEY=VALUE pairs and checks them all, so that a refusal names everything that is wrong.
func fabricValues(pairs []string) (map[string]string, error) {
	values := map[string]string{}
	scratch := schema.DefaultFabric()
	var wrong []string
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			wrong = append(wrong, pair+": KEY=VALUE is wanted")
			continue
		}
		if err := knownFabricKey(key); err != nil {
			wrong = append(wrong, err.Error())
			continue
		}
		if err := scratch.Set(key, value); err != nil {
			wrong = append(wrong, strings.TrimPrefix(err.Error(), string(schema.CodeInvalidParameter)+": "))
		}
		if _, twice := values[key]; twice {
			wrong = append(wrong, key+" stands twice")
		}
		values[key] = value
	}
	if len(wrong) > 0 {
		return nil, usagef("%s", strings.Join(wrong, "; "))
	}
	return values, nil
}

func knownFabricKey(key string) error {
	known := fabricKeys()
	if slices.Contains(known, key) {
		return nil
	}
	return usagef("there is no key %q%s; they are %s", key, didYouMean(key, known), strings.Join(known, ", "))
}

func fabricKeys() []string { return slices.Sorted(maps.Keys(schema.DefaultFabric().Values())) }

func completeFabricKey(suffix string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		keys := fabricKeys()
		for i := range keys {
			keys[i] += suffix
		}
		return keys, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

func (a *app) printFabric(cmd *cobra.Command, out *schema.FabricOutput) error {
	if asJSON(cmd) {
		return a.printJSON(out.Values)
	}
	t := a.table("KEY", "VALUE")
	for _, key := range slices.Sorted(maps.Keys(out.Values)) {
		t.row(key, out.Values[key])
	}
	return t.flush()
}
