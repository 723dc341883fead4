"""Log lines as JSON objects without personal data: no addresses, no file names, no content."""

from __future__ import annotations

import datetime
import json
import logging
import sys

__all__ = ["LOGGER", "log_config", "log_event"]

LOGGER = logging.getLogger("vdeploy.gateway")


def log_event(event: str, *, level: int = logging.INFO, error: BaseException | None = None, **fields: object) -> None:
    """Write one line.

    Args:
        event: Name of the event, in snake case.
        level: A level of `logging`.
        error: Its traceback is added.
        fields: JSON-ready values.
    """
    LOGGER.log(level, event, extra={"fields": fields}, exc_info=error)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        values: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values, default=str)


def log_config() -> None:
    """Send the log lines of the gateway and of uvicorn to stderr, as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    for name in (LOGGER.name, "opentelemetry", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
