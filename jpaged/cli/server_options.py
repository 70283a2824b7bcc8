"""Flags of `jpaged serve`, made from the options that they set; and where else these come from.

flag  >  environment (JPAGED_SERVE_PORT=…)  >  --config file.yaml  >  default
"""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jpaged.cli.options import ENGINE_HELP, add_engine_flags
from jpaged.config import ALIASES
from jpaged.errors import ConfigError
from jpaged.server.options import ServerOptions

PREFIX = "JPAGED_SERVE_"
KEY_VARIABLES = ("JPAGED_API_KEY", "VLLM_API_KEY")
SERVER_HELP = {
    "host": "address to listen at; the default lets in this machine only",
    "port": "0 takes any that is free",
    "api_key": "keys that open every route (better in JPAGED_API_KEY: others may see this line)",
    "open_metrics": "let anybody read /metrics, without a key",
    "max_num_queued_reqs": "requests of a model that may wait for their first token",
    "max_num_queued_tokens": "tokens of their prompts, together",
    "max_requests_per_key": "requests under way for one key",
    "max_body_bytes": "size of a request",
    "request_timeout": "seconds for requests that name no deadline",
    "shutdown_timeout": "seconds that requests have to finish after SIGTERM",
    "engine_restarts": "times in a row that an engine which died is begun anew",
    "engine_patience": "seconds without a sign of an engine until /health says 503",
    "chat_template": "file with a template in place of the models' own",
    "chat_template_timeout": "seconds for rendering one",
    "model_root": "folders that models may be loaded from while running",
    "allowed_origins": "sites whose pages may call from browsers",
    "metrics_prefix": "of the metrics that vLLM has, too",
    "log_requests": "a line when a request to a model is over, or any is refused",
    "log_access": "a line for all other requests, too",
    "log_json": "these lines in JSON",
    "otlp_traces_endpoint": "URL that OpenTelemetry spans go to, http://…:4318/v1/traces",
}
# what is neither an engine's nor a server's option
OTHERS = ("model", "models", "served_model_name", "pretend", "in_process", "config")
KINDS = {"int": int, "float": float, "str": str}


def add_serve_flags(parser: argparse.ArgumentParser) -> None:
    """All of them; none is in the namespace unless given."""
    shared: dict[str, Any] = {"default": argparse.SUPPRESS}
    parser.add_argument("model", nargs="?", help='a folder, a hub name or "demo"', **shared)
    parser.add_argument(
        "--model",
        dest="models",
        action="append",
        metavar="[NAME=]MODEL",
        help="the same, or one more with the same engine options; NAME may have a @VERSION",
        **shared,
    )
    parser.add_argument(
        "--served-model-name", nargs="+", metavar="NAME", help="what clients call MODEL", **shared
    )
    parser.add_argument(
        "--pretend", metavar="SPEC", help="compute nothing, take so long: constant:0.05", **shared
    )
    parser.add_argument(
        "--in-process", action="store_true", help="engines in this process, to debug", **shared
    )
    parser.add_argument("--config", metavar="FILE", help="YAML with any of these options", **shared)
    _add_server_flags(parser.add_argument_group("server options"), shared)
    add_engine_flags(parser)


def _add_server_flags(group: Any, shared: dict[str, Any]) -> None:
    for field in dataclasses.fields(ServerOptions):
        flag, text = "--" + field.name.replace("_", "-"), SERVER_HELP[field.name]
        if field.type is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=text, **shared)
            continue
        kind = next(kind for name, kind in KINDS.items() if name in str(field.type))
        if "tuple" in str(field.type):
            group.add_argument(flag, action="append", help=f"{text}; may be repeated", **shared)
        else:
            default = "" if field.default is None else f" (default {field.default})"
            group.add_argument(flag, type=kind, help=text + default, **shared)


def gathered(given: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """All options from everywhere, by name.  Raises `ConfigError`."""
    variables = _from_environment(environment)
    file = given.get("config") or variables.get("config")
    return {**_from_file(file), **variables, **given}


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """What names no option is somebody else's: Kubernetes writes JPAGED_SERVE_PORT=tcp://… for a
    service of that name."""
    found = {}
    for name, value in environment.items():
        option = name.removeprefix(PREFIX).lower()
        if name.startswith(PREFIX) and option in _known() and not value.startswith("tcp://"):
            found[option] = value.split(",") if option in _lists() else value
    keys = [environment[name] for name in KEY_VARIABLES if environment.get(name)]
    if keys and "api_key" not in found:
        found["api_key"] = keys[0].split(",")
    return _parsed(found, "the environment")


def _from_file(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    import yaml

    if not Path(path).is_file():
        raise ConfigError(f"--config {path} is no file")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must map options to values")
    named = {str(name).replace("-", "_"): value for name, value in values.items()}
    unknown = sorted(set(named) - _known() | ({"config"} & set(named)))
    if unknown:
        raise ConfigError(f"{path} has {', '.join(unknown)}, and `jpaged serve` no such option")
    return _parsed(named, path)


def _parsed(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """As the flags of the same names would be."""
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False)
    add_serve_flags(parser)
    words: list[str] = []
    for name, value in values.items():
        words += _words(name, value)
    try:
        return vars(parser.parse_args(words))
    except argparse.ArgumentError as error:
        raise ConfigError(f"{source}: {error}") from error


def _words(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if name == "model":
        return [str(value)]
    if name == "models":
        flag = "--model"
    if name in _flags():
        is_on = value if isinstance(value, bool) else str(value).lower() in ("1", "true", "yes")
        return [flag] if is_on else [] if name == "in_process" else [f"--no-{flag[2:]}"]
    if value is None:
        return []
    if name == "served_model_name":
        return [flag, *map(str, value if isinstance(value, list) else [value])]
    if name in _lists():
        return [f"{flag}={each}" for each in (value if isinstance(value, list) else [value])]
    return [f"{flag}={value}"]


def _known() -> set[str]:
    return {*OTHERS, *SERVER_HELP, *ENGINE_HELP, *ALIASES}


def _lists() -> set[str]:
    tuples = {each.name for each in dataclasses.fields(ServerOptions) if "tuple" in str(each.type)}
    return {*tuples, "models", "served_model_name"}


def _flags() -> set[str]:
    from jpaged.config import BOOLEANS

    ours = {each.name for each in dataclasses.fields(ServerOptions) if each.type is bool}
    return {"in_process", *ours, *(set(BOOLEANS) & set(ENGINE_HELP))}
