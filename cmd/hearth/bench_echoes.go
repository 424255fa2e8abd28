package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// loops are what may run the echo, in the order of preference.
var loops = [...]string{loopLean, loopNode, loopPython, loopAWS}

// The loops: our own one on a raw connection, those of the interpreters, and AWS's library for Go.
const (
	loopLean   = "lean"
	loopNode   = "nodejs"
	loopPython = "python"
	loopAWS    = "aws"
)

func knownLoop(name string) error {
	if name == "" || slices.Contains(loops[:], name) {
		return nil
	}
	return usagef("--loop is %q%s; one of %s", name, didYouMean(name, loops[:]), strings.Join(loops[:], ", "))
}

// awsEcho is the echo on aws-lambda-go, built in the source tree where that library is a requirement.
const awsEcho = `package main

import (
	"context"
	"encoding/json"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(_ context.Context, event json.RawMessage) (json.RawMessage, error) { return event, nil })
}
`

// The echo for events does what the first word of its payload, a JSON string, says, so that somebody outside sees when an
// event runs, and can hold it. Anything else comes back as it is:
//
//	"tell ADDR WORD ..."  write WORD as a line to ADDR, on a connection that stays, then answer
//	"hang ..."            never answer

// awsSpeaker is it on aws-lambda-go.
const awsSpeaker = `package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

var told net.Conn

func main() {
	lambda.Start(func(_ context.Context, event string) (string, error) {
		words := strings.Fields(event)
		switch {
		case len(words) > 0 && words[0] == "hang":
			for {
				time.Sleep(time.Hour)
			}
		case len(words) > 2 && words[0] == "tell":
			if told == nil {
				var err error
				if told, err = net.Dial("tcp", words[1]); err != nil {
					return "", err
				}
			}
			if _, err := fmt.Fprintln(told, words[2]); err != nil {
				return "", err
			}
		}
		return event, nil
	})
}
`

const nodeSpeaker = `import { connect } from "node:net";

let told;

export const handler = async (event) => {
  const [verb, address, word] = event.split(" ");
  if (verb === "hang") await new Promise((resolve) => setTimeout(resolve, 3600_000));
  if (verb === "tell") {
    if (!told) {
      const [host, port] = address.split(":");
      told = connect(Number(port), host).setNoDelay(true);
    }
    told.write(word + "\n");
  }
  return event;
};
`

const pythonSpeaker = `import socket
import time

told = None


def handler(event, context):
    global told
    words = event.split()
    if words[0] == "hang":
        time.sleep(3600)
    if words[0] == "tell":
        if told is None:
            host, port = words[1].split(":")
            told = socket.create_connection((host, int(port)))
            told.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        told.sendall(words[2].encode() + b"\n")
    return event
`

// speaker makes it; the lean one is the function of the scenarios.
func speaker(ctx context.Context, loop, folder string) (runtime string, err error) {
	return makeLoop(ctx, loop, folder, sources{lean: "./e2e/fn", aws: awsSpeaker, node: nodeSpeaker, python: pythonSpeaker})
}

// plainEcho answers what it was sent.
func plainEcho(ctx context.Context, loop, folder string) (runtime string, err error) {
	return makeLoop(ctx, loop, folder, sources{
		lean: "./examples/echo", aws: awsEcho, node: "export const handler = async (event) => event;\n",
		python: "def handler(event, context):\n    return event\n",
	})
}

// sources are one function for each loop: a package of the source tree, and texts.
type sources struct{ lean, aws, node, python string }

func makeLoop(ctx context.Context, loop, folder string, s sources) (runtime string, err error) {
	script := func(command, runtime, file, text string) (string, error) {
		if _, err := exec.LookPath(command); err != nil {
			return "", errors.New(command + " is not installed")
		}
		return runtime, os.WriteFile(filepath.Join(folder, file), []byte(text), 0o600)
	}
	switch loop {
	case loopLean:
		return "provided", goBuild(ctx, s.lean, filepath.Join(folder, "bootstrap"))
	case loopAWS:
		source := filepath.Join(folder, "main.go")
		if err := os.WriteFile(source, []byte(s.aws), 0o600); err != nil {
			return "", err
		}
		err := goBuild(ctx, source, filepath.Join(folder, "bootstrap"))
		return "provided", errors.Join(err, os.Remove(source))
	case loopNode:
		return script("node", "nodejs", "index.mjs", s.node)
	}
	return script("python3", "python", "index.py", s.python)
}
