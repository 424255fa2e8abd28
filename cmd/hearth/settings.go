package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// settings remembers where each value of the running command came from.
type settings struct {
	source map[string]string // by flag
	file   map[string]any    // the config file, read once
	path   string
}

// fromDefault is the source of what nobody gave; the others are "flag", "environment NAME" and "file PATH".
const fromDefault = "default"

// given reports whether somebody gave this flag's value, in any of the ways.
func (s *settings) given(flag string) bool {
	source := s.source[flag]
	return source != "" && source != fromDefault
}

// against reports whether this flag's value, where somebody gave it, counts against that of another: what is on the command line is not
// overruled by the environment, nor that by the config file.
func (s *settings) against(flag, other string) bool {
	rank := func(flag string) int {
		switch source, _, _ := strings.Cut(s.source[flag], " "); source {
		case "flag":
			return 3
		case "environment":
			return 2
		case "file":
			return 1
		}
		return 0
	}
	return rank(flag) > 0 && rank(flag) >= rank(other)
}

// resolve fills the flags of cmd that its command line left out: from the environment, else from the config file. Every
// bad value is told with its source.
func (s *settings) resolve(cmd *cobra.Command, lookup func(string) (string, bool)) error {
	s.source = map[string]string{}
	cmd.InheritedFlags() // merges them into cmd.Flags() where the command was not the one that ran
	if err := s.readFile(cmd, lookup); err != nil {
		return err
	}
	var bad []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		source, err := s.fill(f, lookup)
		if err != nil {
			bad = append(bad, fmt.Sprintf("%s: %v", source, err))
		}
		s.source[f.Name] = source
	})
	if len(bad) > 0 {
		return usagef("%s; see `%s --help`", strings.Join(bad, "; "), cmd.CommandPath())
	}
	return nil
}

// fill gives a flag its value and says from where.
func (s *settings) fill(f *pflag.Flag, lookup func(string) (string, bool)) (source string, err error) {
	if f.Changed || f.Name == "help" {
		return "flag", nil
	}
	name := variable(f.Name)
	if text, ok := lookup(name); ok && text != "" {
		values := []string{text}
		if f.Value.Type() == "stringArray" {
			values = strings.Split(strings.TrimRight(text, "\n"), "\n")
		}
		return "environment " + name, set(f, values)
	}
	if value, ok := s.file[f.Name]; ok {
		values, err := spellings(value)
		if err == nil {
			err = set(f, values)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", f.Name, err)
		}
		return "file " + s.path, err
	}
	return fromDefault, nil
}

// set gives a flag one value, or a list of them.
func set(f *pflag.Flag, values []string) error {
	if list, ok := f.Value.(pflag.SliceValue); ok && f.Value.Type() == "stringArray" {
		return list.Replace(values)
	}
	text := strings.Join(values, ",")
	if err := f.Value.Set(text); err != nil {
		if f.Value.Type() == "bool" {
			return fmt.Errorf("is %q; true or false", text)
		}
		return fmt.Errorf("is %q; a value of type %s", text, f.Value.Type())
	}
	return nil
}

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "HEARTH_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// spellings are the values of a key in the file as a flag would be given them: a map stands for KEY=VALUE pairs.
func spellings(value any) ([]string, error) {
	switch v := value.(type) {
	case []any:
		var out []string
		for _, item := range v {
			one, err := spellings(item)
			if err != nil || len(one) != 1 {
				return nil, errors.New("a list of plain values is wanted")
			}
			out = append(out, one...)
		}
		return out, nil
	case map[string]any:
		var out []string
		for key, item := range v {
			one, err := spellings(item)
			if err != nil || len(one) != 1 {
				return nil, fmt.Errorf("a plain value is wanted for %s", key)
			}
			out = append(out, key+"="+one[0])
		}
		slices.Sort(out)
		return out, nil
	case nil:
		return []string{""}, nil
	default:
		return []string{fmt.Sprint(v)}, nil
	}
}

// readFile reads the file that --config or its variable names, and refuses keys that are no flag of any command.
func (s *settings) readFile(cmd *cobra.Command, lookup func(string) (string, bool)) error {
	flag := cmd.Flags().Lookup("config")
	if flag == nil {
		return nil
	}
	s.path = flag.Value.String()
	if text, ok := lookup(variable("config")); ok && !flag.Changed {
		s.path = text
	}
	if s.path == "" {
		return nil
	}
	content, err := os.ReadFile(s.path)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return usagef("config file %s: %v; name another with --config, or none", s.path, err)
	}
	if err := yaml.Unmarshal(content, &s.file); err != nil {
		return usagef("config file %s: %v; it holds one `flag: value` a line", s.path, err)
	}
	known := flagNames(cmd.Root())
	for key := range s.file {
		if !slices.Contains(known, key) {
			return usagef("config file %s: there is no flag %q%s; its keys are names of flags", s.path, key, didYouMean(key, known))
		}
	}
	return nil
}

// flagNames are the names of all flags of all commands that people see, sorted.
func flagNames(root *cobra.Command) []string {
	var names []string
	add := func(f *pflag.Flag) {
		if f.Name != "help" && f.Name != "config" && !f.Hidden {
			names = append(names, f.Name)
		}
	}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		cmd.LocalFlags().VisitAll(add)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	slices.Sort(names)
	return slices.Compact(names)
}
