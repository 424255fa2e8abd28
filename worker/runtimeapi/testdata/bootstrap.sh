#!/bin/sh
# The bootstrap of AWS's own tutorial for custom runtimes: curl, a connection a request, the answer as a form.
set -eu
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
headers="$TMPDIR/headers"
while true; do
	curl -sS -LD "$headers" -o "$TMPDIR/event" "$api/invocation/next"
	id=$(grep -Fi Lambda-Runtime-Aws-Request-Id "$headers" | tr -d '[:space:]' | cut -d: -f2)
	case $(head -c 5 "$TMPDIR/event") in
	'"fail') curl -sS -f "$api/invocation/$id/error" -d '{"errorType":"Sh.Asked","errorMessage":"as asked"}' ;;
	'"form') curl -sS -f "$api/invocation/$id/response" -d "SUCCESS" ;;
	'"fifo') curl -sS -f -X POST "$api/invocation/$id/response" -H 'Transfer-Encoding: chunked' -T - <"$TMPDIR/event" ;;
	*) curl -sS -f -X POST "$api/invocation/$id/response" --data-binary "@$TMPDIR/event" ;;
	esac >>"$TMPDIR/answers"
done
