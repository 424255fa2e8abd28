package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/internal/token"
	"github.com/hearth-run/hearth/schema"
)

// Bounds of a JWKS that is fetched.
const (
	jwksTime = 10 * time.Second
	jwksMost = 1 << 20
)

func (a *app) token() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "token",
		Short:   "Tokens of sub-tenants",
		Example: "  hearth token verify --audience records < token.jwt",
		GroupID: groupSee,
		Args: func(cmd *cobra.Command, args []string) error { // what stands there may be a token: it is not repeated
			if len(args) > 0 {
				return usagef("hearth token has one command: verify; use: hearth token verify [TOKEN or -]")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.tokenVerify())
	return cmd
}

func (a *app) tokenVerify() *cobra.Command {
	var jwks, issuer, audience string
	cmd := &cobra.Command{
		Use:   "verify [TOKEN or -]",
		Short: "Check a token as a service does, and print its claims",
		Long: "Check a token of a sub-tenant against the keys and the issuer of the fabric, as a service does, and print its claims, or say why\n" +
			"it is refused (exit code 2). Without an argument, or for -, it is read from the standard input, where no list of processes shows it.",
		Example: "  hearth token verify --audience records < token.jwt\n" +
			"  hearth token verify --jwks http://127.0.0.1:4280/.well-known/jwks.json --issuer hearth --json - < token.jwt",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("%s takes one token, or - for the standard input", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if jwks != "" && issuer == "" {
				return usagef("--jwks needs --issuer: a set of keys does not say whose tokens they sign; `hearth fabric get issuer` does")
			}
			text, err := a.readToken(args)
			if err != nil {
				return err
			}
			check := token.Check{Audience: audience, Issuer: issuer, Now: time.Now()}
			if jwks != "" {
				check.Keys, err = fetchJWKS(cmd.Context(), jwks)
			} else {
				err = a.askKeys(cmd, &check)
			}
			if err != nil {
				return err
			}
			return a.printVerdict(cmd, &check, text)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&audience, "audience", "", "it has to be for this one")
	flags.StringVar(&jwks, "jwks", "", "URL of the keys (default: the fabric's, over NATS)")
	flags.StringVar(&issuer, "issuer", "", "it has to be of this one (default: the fabric's)")
	jsonFlag(cmd)
	return cmd
}

// readToken gives the token, which stands in no error.
func (a *app) readToken(args []string) (string, error) {
	text := ""
	if len(args) == 1 && args[0] != "-" {
		text = args[0]
	} else {
		if len(args) == 0 && isTerminal(a.stdin) {
			return "", usagef("hearth token verify misses the token: name it, or - to type it in")
		}
		b, err := io.ReadAll(io.LimitReader(a.stdin, 4*token.MaxText))
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		text = string(b)
	}
	text = strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(text, "Bearer "); ok {
		text = rest
	}
	if text == "" {
		return "", usagef("hearth token verify was given no token")
	}
	return text, nil
}

// askKeys gets keys and issuer from the fabric.
func (a *app) askKeys(cmd *cobra.Command, check *token.Check) error {
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	out, err := c.TokenKeys(cmd.Context())
	if err != nil {
		return err
	}
	check.Keys.Keys, check.Issuer = out.Keys, cmp.Or(check.Issuer, out.Issuer)
	return nil
}

// fetchJWKS gets a set of keys as a service does.
func fetchJWKS(ctx context.Context, from string) (set token.Set, err error) {
	u, err := url.Parse(from)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return set, usagef("--jwks %q is no http or https URL", from)
	}
	ctx, cancel := context.WithTimeout(ctx, jwksTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return set, usagef("--jwks %q: %v", from, err)
	}
	unreachable := func(err error) error {
		return &schema.Error{Code: schema.CodeUnavailable, Cause: err, Message: fmt.Sprintf("no keys from %s: %v; is that the fabric's listener?", from, err)}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return set, unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return set, unreachable(errors.New(resp.Status))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, jwksMost))
	if err == nil {
		err = json.Unmarshal(body, &set)
	}
	if err != nil {
		return set, unreachable(err)
	}
	return set, nil
}

// printVerdict prints the claims of a token that is good, or why it is not, never the token.
func (a *app) printVerdict(cmd *cobra.Command, check *token.Check, text string) error {
	claims, err := check.Verify(text)
	var refusal *token.Refusal
	switch {
	case errors.As(err, &refusal):
		if asJSON(cmd) {
			if err := a.printJSON(struct {
				Valid  bool   `json:"valid"`
				Reason string `json:"reason"`
				Error  string `json:"error"`
			}{false, refusal.Reason, refusal.Text}); err != nil {
				return err
			}
		}
		return usagef("the token is refused (%s): %s", refusal.Reason, refusal.Text)
	case err != nil:
		return err
	case asJSON(cmd):
		return a.printJSON(struct {
			Valid  bool          `json:"valid"`
			Claims *token.Claims `json:"claims"`
		}{true, claims})
	}
	t := a.table("CLAIM", "VALUE")
	t.row("iss", claims.Issuer)
	t.row("sub", claims.Subject)
	t.row("aud", strings.Join(claims.Audience, ", "))
	t.row("account", claims.Account)
	t.row("tenant", claims.Tenant)
	t.row("function", claims.Function)
	t.row("version", claims.Version)
	t.row("env", claims.Environment)
	t.row("iat", localTime(claims.IssuedAt.Time))
	t.row("nbf", localTime(claims.NotBefore.Time))
	t.row("exp", localTime(claims.ExpiresAt.Time))
	t.row("jti", claims.ID)
	return t.flush()
}
