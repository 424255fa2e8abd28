"""The loop of the python runtimes.

It asks Hearth's Runtime API for calls and gives them to the function's handler, as AWS's own client for Python does it,
over one connection and with the standard library alone. An answer and the request for the next call leave in one write:
each write saved is a wake-up of the worker saved, and those are most of what a warm call costs.
"""

import importlib
import json
import os
import socket
import sys
import time
import traceback

_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, _HERE)  # it is not there where PYTHONSAFEPATH is set

import _hearth_logs  # noqa: E402: beside this file; its name is none that a package would have

_BASE = "/2018-06-01/runtime/"
_MAX_HEAD = 1 << 20
_JSON = "application/json"


class Fault(Exception):
    """An error of the runtime itself, with the type that the caller sees."""

    def __init__(self, kind, message, trace=None):
        super().__init__(message)
        self.kind = "Runtime." + kind
        self.message = message
        self.trace = trace


# ---- connection ---------------------------------------------------------------------------------------------------------


class Connection:
    """One HTTP/1.1 connection to the Runtime API."""

    def __init__(self, address):
        self.address = address
        self.head = "Host: %s\r\nUser-Agent: hearth-python/%d.%d\r\n" % ((address,) + sys.version_info[:2])
        # The status of an answer may come with the next call: nobody waits for it, and that is one wake-up a call less.
        self.next = ("GET %sinvocation/next HTTP/1.1\r\n%sHearth-Runtime-Answers: together\r\n\r\n" % (_BASE, self.head)).encode()
        self.connect()

    def connect(self):
        host, _, port = self.address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = bytearray()
        self.closing = False

    def post(self, what, kind, body, more=""):
        head = "POST %s%s HTTP/1.1\r\n%sContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n" % (
            _BASE, what, self.head, kind, more, len(body))
        return head.encode() + body

    def send(self, request):
        try:
            self.socket.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            self.closing = True  # it may have answered before it hung up

    def fill(self):
        chunk = self.socket.recv(65536)
        if not chunk:
            raise ConnectionError("the runtime API closed the connection")
        self.input += chunk

    def take(self, count):
        """The next count bytes."""
        if count > len(self.input):
            # Larger than what is here: read to its place, so that a long payload is copied once.
            whole = bytearray(count)
            have = len(self.input)
            whole[:have] = self.input
            self.input.clear()
            view = memoryview(whole)
            while have < count:
                n = self.socket.recv_into(view[have:])
                if n == 0:
                    raise ConnectionError("the runtime API closed the connection")
                have += n
            return bytes(whole)
        whole = bytes(self.input[:count])
        del self.input[:count]
        return whole

    def until(self, mark):
        start = 0
        while True:
            end = self.input.find(mark, start)
            if end >= 0:
                return self.take(end + len(mark))[:-len(mark)]
            if len(self.input) > _MAX_HEAD:
                raise ConnectionError("the runtime API sent a head without an end")
            start = max(0, len(self.input) - len(mark))
            self.fill()

    def receive(self):
        """The next answer: status, headers by lower-case name, body."""
        lines = self.until(b"\r\n\r\n").decode("utf-8", "replace").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("connection") == "close":
            self.closing = True
        if headers.get("transfer-encoding") == "chunked":  # Hearth itself sends none
            body = b""
            while True:
                size = int(self.until(b"\r\n"), 16)
                body += self.take(size)
                self.take(2)
                if size == 0:
                    break
        else:
            body = self.take(int(headers.get("content-length", "0")))
        return int(lines[0][9:12]), headers, body

    def receive_next(self):
        """The next call. After an answer that it refused the API may hang up with the request for it unread."""
        try:
            status, headers, body = self.receive()
        except ConnectionError:
            if not self.closing:
                raise
            self.socket.close()
            self.connect()
            self.send(self.next)
            status, headers, body = self.receive()
        if status != 200:
            raise ConnectionError("the runtime API has no next call: %d %s" % (status, body.decode("utf-8", "replace").strip()))
        return headers, body


# ---- context ------------------------------------------------------------------------------------------------------------


class _Record:
    """A plain object whose missing members are None."""

    def __init__(self, **members):
        self.__dict__.update(members)

    def __repr__(self):
        return "%s([%s])" % (type(self).__name__, ",".join("%s=%s" % item for item in self.__dict__.items()))


class CognitoIdentity(_Record):
    pass


class Client(_Record):
    pass


class ClientContext(_Record):
    pass


class LambdaContext:
    """What a handler learns of its call.

    The token by which a function proves for which sub-tenant it speaks is no member that vars() or repr() would carry along.
    """

    __slots__ = ("__dict__", "_hearth_token")

    def __init__(self, headers):
        self._hearth_token = headers.get("hearth-tenant-token")
        self.aws_request_id = headers.get("lambda-runtime-aws-request-id")
        self.log_group_name = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.function_version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn")
        self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        self.client_context = _client_context(headers.get("lambda-runtime-client-context"))
        self.identity = _identity(headers.get("lambda-runtime-cognito-identity"))
        self._epoch_deadline_time_in_ms = int(headers.get("lambda-runtime-deadline-ms") or 0)

    def get_remaining_time_in_millis(self):
        return max(self._epoch_deadline_time_in_ms - int(time.time() * 1000), 0)

    def log(self, msg):
        sys.stdout.write(str(msg))

    @property
    def hearth_token(self):
        """The sub-tenant's token that came with the call; None where the function has no audience, or no sub-tenants."""
        return self._hearth_token

    def get_hearth_token(self):
        """The present token, for calls that last longer than that which came with them. Asked of the Runtime API."""
        return _ask_token()

    def __repr__(self):
        return "LambdaContext([%s])" % ",".join("%s=%s" % item for item in self.__dict__.items())


# Taken before the package's code is loaded, which may change its variables. Without sub-tenants there are none of these.
_TOKEN_URL = os.environ.get("HEARTH_TOKEN_URL")
_TOKEN_AUTH = os.environ.get("HEARTH_TOKEN_AUTH")


class HearthTokenError(Exception):
    """There is no token; the text says why."""


def _ask_token():
    if not _TOKEN_URL or not _TOKEN_AUTH:
        raise HearthTokenError("no token: this function has no sub-tenants")
    import http.client  # few functions need it; unlike urllib it knows no proxies, which would get to see the secret

    _, _, rest = _TOKEN_URL.partition("://")
    address, slash, path = rest.partition("/")
    connection = http.client.HTTPConnection(address)
    try:
        connection.request("POST", slash + path, headers={"Hearth-Token-Request": "true", "Hearth-Token-Auth": _TOKEN_AUTH})
        response = connection.getresponse()
        answer = json.loads(response.read())
    finally:
        connection.close()
    if response.status != 200:
        raise HearthTokenError("no token: %s" % answer.get("errorMessage"))
    return answer["token"]


def _parse(text, name):
    try:
        return json.loads(text)
    except ValueError as e:
        raise Fault("LambdaContextUnmarshalError", "Unable to parse %s JSON: %s" % (name, e))


def _client_context(text):
    if not text:
        return None
    given = _parse(text, "Client Context")
    client = given.get("client") or {}
    names = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")
    return ClientContext(
        custom=given.get("custom"),
        env=given.get("env"),
        client=Client(**{name: client.get(name) for name in names}) if client else None,
    )


def _identity(text):
    given = _parse(text, "Cognito Identity") if text else {}
    return CognitoIdentity(
        cognito_identity_id=given.get("cognitoIdentityId"),
        cognito_identity_pool_id=given.get("cognitoIdentityPoolId"),
    )


# ---- calls --------------------------------------------------------------------------------------------------------------


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError, OSError):
            pass  # the function replaced or closed it


class _Encoder(json.JSONEncoder):
    """Decimals, which databases answer with, are numbers."""

    def default(self, o):
        if type(o).__module__ == "decimal" and type(o).__name__ == "Decimal":
            return int(o) if o.is_finite() and o == o.to_integral_value() else float(o)
        return super().default(o)


_encoder = _Encoder(ensure_ascii=sys.version_info < (3, 12))


def error_object(message, kind, trace, request_id=""):
    return {"errorMessage": message or "", "errorType": kind or "", "requestId": request_id, "stackTrace": trace or []}


def fault_object(error, request_id=""):
    """What a caller sees of an exception."""
    if isinstance(error, Fault):
        return error_object(error.message, error.kind, error.trace, request_id)
    frames = traceback.extract_tb(error.__traceback__)
    while frames and frames[0].filename == __file__:
        del frames[0]
    # Frames as they were before 3.11 began to mark columns: that is what Lambda answers.
    trace = traceback.format_list([(f.filename, f.lineno, f.name, f.line) for f in frames])
    try:
        message = str(error)
    except Exception as e:
        message = "the exception has no text: %s" % type(e).__name__
    return error_object(message, type(error).__name__, trace, request_id)


def run(handler, headers, body):
    """One call: what to post, its content type, and where."""
    request_id = headers.get("lambda-runtime-aws-request-id", "")
    try:
        context = LambdaContext(headers)
        if headers.get("content-type") == _JSON:
            try:
                event = json.loads(body)
            except Exception as e:
                raise Fault("UnmarshalError", "Unable to unmarshal input: %s" % e)
        else:
            event = body
        result = handler(event, context)
        if isinstance(result, bytes):
            return "response", "application/unknown", result
        try:
            return "response", _JSON, _encoder.encode(result).encode("utf-8")
        except Exception as e:
            raise Fault("MarshalError", "Unable to marshal response: %s" % e)
    except Exception as e:
        result = fault_object(e, request_id)
        _hearth_logs.log_error(result)
        return "error", _JSON, json.dumps(result).encode()


def load(text):
    """The handler that a text such as pkg/mod.fn names."""
    module, dot, name = text.rpartition(".")
    if not dot:
        raise Fault("MalformedHandlerName", "Bad handler '%s': not enough values to unpack (expected 2, got 1)" % text)
    if module.split(".")[0] in sys.builtin_module_names:
        raise Fault("BuiltInModuleConflict", "Cannot use built-in module %s as a handler module" % module)
    try:
        found = importlib.import_module(module.replace("/", "."))
    except ImportError as e:
        raise Fault("ImportModuleError", "Unable to import module '%s': %s" % (module, e))
    except SyntaxError as e:
        trace = ['  File "%s" Line %s\n    %s' % (e.filename, e.lineno, e.text)]
        raise Fault("UserCodeSyntaxError", "Syntax error in module '%s': %s" % (module, e), trace)
    try:
        return getattr(found, name)
    except AttributeError:
        raise Fault("HandlerNotFound", "Handler '%s' missing on module '%s'" % (name, module))


def main():
    for stream in (sys.stdout, sys.stderr):
        # What UTF-8 cannot hold must not make an error of a line.
        stream.reconfigure(line_buffering=True, errors="backslashreplace")
    # The package comes first, instead of the folder of this file.
    sys.path[:] = [os.environ["LAMBDA_TASK_ROOT"]] + [folder for folder in sys.path if folder != _HERE]
    _hearth_logs.set_up()
    try:
        serve(Connection(os.environ["AWS_LAMBDA_RUNTIME_API"]))
    except OSError as e:
        sys.stderr.write("runtime API: %s\n" % e)
        sys.exit(1)


def serve(connection):
    try:
        handler = load(os.environ.get("_HANDLER", ""))
    except Exception as e:
        result = fault_object(e)
        _hearth_logs.log_error(result)
        connection.send(connection.post(
            "init/error", _JSON, json.dumps(result).encode(),
            "Lambda-Runtime-Function-Error-Type: %s\r\n" % result["errorType"]))
        connection.receive()
        sys.exit(1)
    request = connection.next
    answered = False
    while True:
        connection.send(request)
        if answered:
            status, _, refusal = connection.receive()
            if status != 202:
                refusal = refusal.decode("utf-8", "replace").strip()
                sys.stdout.write("the runtime API refused the answer: %d %s\n" % (status, refusal))
        headers, body = connection.receive_next()
        _hearth_logs.request_id = headers.get("lambda-runtime-aws-request-id", "")
        _hearth_logs.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        trace = headers.get("lambda-runtime-trace-id")
        if trace is not None:
            os.environ["_X_AMZN_TRACE_ID"] = trace
        else:
            os.environ.pop("_X_AMZN_TRACE_ID", None)
        what, kind, result = run(handler, headers, body)
        flush()
        request = connection.post("invocation/%s/%s" % (_hearth_logs.request_id, what), kind, result) + connection.next
        answered = True


if __name__ == "__main__":
    main()
