// A function on the raw Runtime API, as somebody writes one in an afternoon: one blocking socket, heads read to their empty
// line, nothing pipelined, no library. What it does is the event's first word.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <netdb.h>

static int fd = -1;
static char head[65536];
static char *body;
static long length;

static void die(const char *why) {
	fprintf(stderr, "bootstrap: %s\n", why);
	exit(70);
}

static void dial(void) {
	char host[256];
	const char *api = getenv("AWS_LAMBDA_RUNTIME_API");
	if (api == NULL || strlen(api) >= sizeof host) die("no address");
	strcpy(host, api);
	char *port = strrchr(host, ':');
	if (port == NULL) die("no port");
	*port++ = 0;
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *at;
	if (getaddrinfo(host, port, &hints, &at) != 0) die("no such address");
	fd = socket(at->ai_family, at->ai_socktype, at->ai_protocol);
	if (fd < 0 || connect(fd, at->ai_addr, at->ai_addrlen) != 0) die("cannot connect");
	freeaddrinfo(at);
}

static void put(const char *bytes, size_t n) {
	while (n > 0) {
		ssize_t k = write(fd, bytes, n);
		if (k <= 0) die("cannot write");
		bytes += k;
		n -= (size_t)k;
	}
}

static const char *header(const char *name) {
	size_t n = strlen(name);
	for (char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
			const char *value = line + n + 1;
			while (*value == ' ') value++;
			return value;
		}
	}
	return NULL;
}

// receive reads one answer, a byte at a time as far as its head goes, and returns its status.
static int receive(void) {
	size_t n = 0;
	while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) {
		if (n + 1 >= sizeof head) die("a head without an end");
		if (read(fd, head + n, 1) != 1) die("the server hung up");
		n++;
	}
	head[n] = 0;
	const char *announced = header("Content-Length");
	if (announced == NULL) die("no length");
	length = atol(announced);
	free(body);
	body = malloc((size_t)length + 1);
	for (long have = 0; have < length;) {
		ssize_t k = read(fd, body + have, (size_t)(length - have));
		if (k <= 0) die("half a body");
		have += k;
	}
	body[length] = 0;
	return atoi(head + 9);
}

static int post(const char *id, const char *what, const char *bytes, size_t n) {
	char request[512];
	int k = snprintf(request, sizeof request,
		"POST /2018-06-01/runtime/invocation/%s/%s HTTP/1.1\r\nHost: runtime\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
		id, what, n);
	put(request, (size_t)k);
	put(bytes, n);
	return receive();
}

int main(void) {
	dial();
	for (;;) {
		const char *next = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: runtime\r\n\r\n";
		put(next, strlen(next));
		if (receive() != 200) die("no call");
		char id[128];
		const char *given = header("Lambda-Runtime-Aws-Request-Id");
		if (given == NULL || sscanf(given, "%127[^\r]", id) != 1) die("no request id");
		if (header("Lambda-Runtime-Deadline-Ms") == NULL || header("Lambda-Runtime-Invoked-Function-Arn") == NULL) die("a header is missing");
		int status, want = 202;
		if (strncmp(body, "\"fail", 5) == 0) {
			const char *error = "{\"errorType\":\"C.Asked\",\"errorMessage\":\"as asked\"}";
			status = post(id, "error", error, strlen(error));
		} else if (strncmp(body, "\"grow ", 6) == 0) {
			size_t n = (size_t)atol(body + 6);
			char *bytes = malloc(n);
			memset(bytes, 'g', n);
			status = post(id, "response", bytes, n);
			want = n > 6291556 ? 413 : 202;
			free(bytes);
		} else if (strncmp(body, "\"twice", 6) == 0) {
			if (post(id, "response", "1", 1) != 202) die("the first answer was not taken");
			status = post(id, "response", "2", 1);
			want = 403;
		} else if (strncmp(body, "\"stray", 6) == 0) {
			if (post("00000000-0000-4000-8000-000000000000", "response", "1", 1) != 400) die("the answer of another call was taken");
			status = post(id, "response", "\"own\"", 5);
		} else if (strncmp(body, "\"exit ", 6) == 0) {
			exit(atoi(body + 6));
		} else {
			char *event = malloc((size_t)length);
			size_t n = (size_t)length;
			memcpy(event, body, n);
			status = post(id, "response", event, n);
			free(event);
		}
		if (status != want) die("an answer had another status than it should");
	}
}
