"""Everything a user may set about a server, beside its engines."""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jpaged.errors import ConfigError
from jpaged.server import limits

METRICS_PREFIX = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)?")
URL = re.compile(r"https?://[^\s]+")


@dataclass(frozen=True)
class ServerOptions:
    """Options of a server.  Raises `ConfigError`, naming every bad value.

    api_key: any of these opens every route; without one, none is asked for.  max_num_queued_reqs,
    max_num_queued_tokens: of each model, requests that have not begun to answer, and their prompts'
    tokens.  max_requests_per_key: under way at a time.  request_timeout: seconds that a request may
    take which names none itself.  shutdown_timeout: seconds that streams have to finish after
    SIGTERM.  engine_restarts: how many times in a row an engine process that died is begun anew;
    then the server ends.  engine_patience: seconds without a sign of it until it is not healthy.
    chat_template: a file with a template to use in place of the models' own.
    chat_template_timeout: seconds for one rendering.  model_root: folders that models may be loaded
    from while running.  allowed_origins: pages that browsers may call us from.  metrics_prefix: of
    the metrics that are vLLM's, too.  log_requests: a line for each that asked a model or
    was refused; log_access: for all others, too; log_json: lines in JSON.  otlp_traces_endpoint: a
    URL that spans are sent to.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: tuple[str, ...] = field(default=(), repr=False)
    open_metrics: bool = False
    max_num_queued_reqs: int = 2048
    max_num_queued_tokens: int = 4 * 1024 * 1024
    max_requests_per_key: int | None = None
    max_body_bytes: int = limits.MAX_BODY_BYTES
    request_timeout: float | None = None
    shutdown_timeout: float = 30.0
    engine_restarts: int = 0
    engine_patience: float = 5.0
    chat_template: str | None = None
    chat_template_timeout: float = 5.0
    model_root: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    metrics_prefix: str = "vllm:"
    log_requests: bool = True
    log_access: bool = False
    log_json: bool = False
    otlp_traces_endpoint: str | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "ServerOptions":
        """From options by name, those of others among them; lists are tuples here."""
        known: dict[str, Any] = {
            name: tuple(options[name]) if isinstance(options[name], list) else options[name]
            for name in OPTION_NAMES
            if name in options
        }
        return cls(**known)

    def __post_init__(self) -> None:
        problems = [*self._count_problems(), *self._second_problems(), *self._text_problems()]
        if problems:
            raise ConfigError("; ".join(problems))

    def _count_problems(self):
        for name in ("max_num_queued_reqs", "max_num_queued_tokens", "max_body_bytes"):
            if getattr(self, name) < 1:
                yield f"{name} must be at least 1, not {getattr(self, name)}"
        if self.max_requests_per_key is not None and self.max_requests_per_key < 1:
            yield f"max_requests_per_key must be at least 1, not {self.max_requests_per_key}"
        if self.engine_restarts < 0:
            yield f"engine_restarts must be at least 0, not {self.engine_restarts}"
        if not 0 <= self.port < 65536:
            yield f"port must be from 0 (any) to 65535, not {self.port}"

    def _second_problems(self):
        for name in (
            *("request_timeout", "shutdown_timeout"),
            *("engine_patience", "chat_template_timeout"),
        ):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                yield f"{name} must be seconds, not {value}"

    def _text_problems(self):
        if any(not key or not key.isascii() or not key.isprintable() for key in self.api_key):
            yield "an api_key must be printable ASCII, and not empty"
        if not METRICS_PREFIX.fullmatch(self.metrics_prefix) or self.metrics_prefix == "jpaged:":
            yield f"metrics_prefix {self.metrics_prefix!r} begins no name of a metric, or ours"
        if self.otlp_traces_endpoint and not URL.fullmatch(self.otlp_traces_endpoint):
            yield f"otlp_traces_endpoint {self.otlp_traces_endpoint} is no http(s) URL"
        for root in self.model_root:
            if not Path(root).is_dir():
                yield f"model_root {root} is no folder"
        if self.chat_template is not None and not Path(self.chat_template).is_file():
            yield f"chat_template {self.chat_template} is no file"

    @property
    def is_loopback(self) -> bool:
        return self.host in ("127.0.0.1", "localhost", "::1")


OPTION_NAMES = tuple(each.name for each in dataclasses.fields(ServerOptions))
