"""Lines of the python runtimes: what the function logs, and the errors that end its calls, as text or as JSON (Lambda A8)."""

import json
import logging
import os
import sys
import time
import traceback

request_id = ""  # of the call that runs, in every log record
tenant_id = None


def log_error(result):
    """Writes an error as one line: as JSON, or its own line ends become carriage returns and its indents no-break spaces."""
    if _json_form():
        sys.stdout.write(_log_encoder.encode({"timestamp": _timestamp(time.time()), "log_level": "ERROR", **result}) + "\n")
        return
    lines = ["[ERROR] %s: %s" % (result["errorType"], result["errorMessage"]) if result["errorMessage"] else
             "[ERROR] " + result["errorType"], "Traceback (most recent call last):"]
    for element in result["stackTrace"]:
        for line in element.splitlines():
            text = line.lstrip(" ")
            lines.append("\u00a0" * (len(line) - len(text)) + text)
    sys.stdout.write("\r".join(lines) + "\n")


class _Handler(logging.Handler):
    def emit(self, record):
        try:
            sys.stdout.write(self.format(record))
        except Exception:
            self.handleError(record)


class _Filter(logging.Filter):
    def filter(self, record):
        record.aws_request_id = request_id
        record.tenant_id = tenant_id
        return True


def _json_form():
    return os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"


def _timestamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + ".%03dZ" % (seconds % 1 * 1000)


_log_encoder = json.JSONEncoder(ensure_ascii=False, default=repr)

# Members of a record that are not the logger's user's own.
_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"aws_request_id", "tenant_id", "message", "asctime", "taskName"}


class _JSONFormatter(logging.Formatter):
    """A record as one JSON object; what the user added to it stands beside Lambda's members."""

    def format(self, record):
        line = {
            "timestamp": _timestamp(record.created),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info and record.exc_info[0] is not None:
            kind, error, trace = record.exc_info
            line["stackTrace"] = traceback.format_tb(trace)
            line["errorType"] = kind.__name__
            line["errorMessage"] = str(error)
            line["location"] = "%s:%s:%d" % (record.pathname, record.funcName, record.lineno)
        line["requestId"] = record.aws_request_id
        if record.tenant_id is not None:
            line["tenantId"] = record.tenant_id
        for name, value in vars(record).items():
            if name not in _KNOWN and name not in line and value is not None:
                line[name] = value
        return _log_encoder.encode(line) + "\n"


def set_up():
    handler = _Handler()
    root = logging.getLogger()
    if _json_form():
        handler.setFormatter(_JSONFormatter())
        level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
        level = {"TRACE": "DEBUG", "FATAL": "CRITICAL", "WARN": "WARNING"}.get(level, level)
        if level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            root.setLevel(level)
    else:
        formatter = logging.Formatter(
            "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n", "%Y-%m-%dT%H:%M:%S")
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    handler.addFilter(_Filter())
    root.addHandler(handler)
