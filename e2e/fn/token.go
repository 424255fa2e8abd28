package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
)

// fetch asks a service for what words say, METHOD PATH, in the name of a token, and gives what it said: status and body.
func fetch(address string, words []string, token string) (string, error) {
	body := ""
	if words[0] == "PUT" {
		body = `{"kept":true}`
	}
	return ask(address, words[0]+" "+words[1], body, "Authorization: Bearer "+token)
}

// pull asks the Runtime API for the sub-tenant's token with this secret and these further headers; the first is "" where it is refused.
func pull(secret string, headers ...string) (token, said string, err error) {
	api := os.Getenv("AWS_LAMBDA_RUNTIME_API")
	said, err = ask(api, "POST /hearth/v1/token", "", append(headers, "Hearth-Token-Request: true", "Hearth-Token-Auth: "+secret)...)
	if body, ok := strings.CutPrefix(said, "200 "); ok && err == nil {
		var got struct{ Token string }
		err = json.Unmarshal([]byte(body), &got)
		token = got.Token
	}
	return token, said, err
}

// ask makes one request on a connection of its own.
func ask(address, what, body string, headers ...string) (string, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	headers = append(headers, "Host: "+address, "Connection: close", "Content-Length: "+strconv.Itoa(len(body)))
	if _, err := fmt.Fprintf(c, "%s HTTP/1.1\r\n%s\r\n\r\n%s", what, strings.Join(headers, "\r\n"), body); err != nil {
		return "", err
	}
	all, err := io.ReadAll(c)
	head, said, ok := strings.Cut(string(all), "\r\n\r\n")
	if line := strings.Fields(head); err == nil && ok && len(line) > 1 {
		return line[1] + " " + strings.TrimSpace(said), nil
	}
	return "", fmt.Errorf("no answer to %s: %v: %.80q", what, err, all)
}

// tokenVerb does what a payload says of tokens. Its answer holds none of them.
func (r *runtime) tokenVerb(verb, arg string, words []string) (answer string, err error) {
	own := os.Getenv("HEARTH_TOKEN_AUTH")
	switch verb {
	case "fetch":
		answer, err = fetch(arg, words[2:], r.token)
	case "fetch-pulled":
		var token string
		if token, answer, err = pull(own, words[4:]...); token != "" {
			answer, err = fetch(arg, words[2:], token)
		}
	case "pull":
		if _, answer, err = pull(arg); strings.HasPrefix(answer, "200") {
			answer = "200"
		}
	case "next":
		answer, err = ask(os.Getenv("AWS_LAMBDA_RUNTIME_API"), strings.TrimSpace(strings.SplitN(next, " HTTP", 2)[0]), "")
	case "leak":
		all := r.token + " " + own
		fmt.Println("leaks " + all)
		fmt.Fprintln(os.Stderr, "leaks "+all)
		return "", fmt.Errorf("leaks %s", all)
	}
	return strconv.Quote(answer), err
}
