"""`jpaged serve MODEL`: the HTTP server."""

import argparse
import asyncio
import os
import resource
import sys
from typing import Any

import uvloop

from jpaged.cli.options import ENGINE_HELP, with_policy
from jpaged.cli.server_options import gathered
from jpaged.engine.client import EngineClient
from jpaged.errors import ConfigError
from jpaged.server import garbage, logs, registry
from jpaged.server.models import Launch
from jpaged.server.options import ServerOptions
from jpaged.server.serve import Server

MOST_HANDLES = 65536


def run(args: argparse.Namespace) -> int:
    """Returns what `Exit` says: 0 if everything that had begun was finished."""
    options = gathered(vars(args), os.environ)
    server_options = ServerOptions.of(options)
    logs.write_to_stdout(server_options.log_json)
    allow_many_connections()
    launch = launcher(options, server_options)
    models = models_of(options)

    async def serve() -> int:
        aliases = options.get("served_model_name", [])[1:]
        server = Server(models, launch, server_options, aliases)
        # whoever finds it healthy may end it at once; while it loads, a signal just ends it
        return await server.run(announce, on_loaded=Server.stop_on_signals)

    return uvloop.run(serve())


def allow_many_connections() -> None:
    """Each is a file handle, of which processes may have 1,024 until they ask for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_HANDLES if hard == resource.RLIM_INFINITY else min(hard, MOST_HANDLES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def models_of(options: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, path) of each; the first has the name that is served.  Raises `ConfigError`."""
    found = []
    if options.get("model"):
        found.append((options["model"], options["model"]))
    for each in options.get("models", ()):
        name, is_named, path = each.partition("=")
        if not name or (is_named and not path):
            raise ConfigError(f"--model {each}: write MODEL, or NAME=PATH")
        found.append((name, path if is_named else name))
    if not found:
        raise ConfigError("no model to serve: name one")
    if options.get("served_model_name"):
        found[0] = (options["served_model_name"][0], found[0][1])
    return found


def launcher(options: dict[str, Any], server: ServerOptions) -> Launch:
    """Makes engines with these options."""
    engine_options = {name: options[name] for name in ENGINE_HELP if name in options}
    if options.get("pretend"):
        engine_options["pretend"] = options["pretend"]

    async def in_this_process(name: str, path: str) -> EngineClient:
        from jpaged.engine.async_engine import AsyncLLMEngine

        return await asyncio.to_thread(AsyncLLMEngine, path, **with_policy(engine_options))

    async def in_its_own(name: str, path: str) -> EngineClient:
        from jpaged.server.remote_engine import RemoteEngine

        return await RemoteEngine.launch(
            path,
            restarts=server.engine_restarts,
            patience=server.engine_patience,
            **engine_options,
        )

    return in_this_process if options.get("in_process") else in_its_own


def announce(server: Server) -> None:
    """One line, when it serves."""
    garbage.settle()
    host = server.options.host
    url = f"http://{f'[{host}]' if ':' in host else host}:{server.port}"
    models = ", ".join(
        f"{served.name} ({served.engine.card.num_pages} pages of "
        f"{served.engine.card.page_size} tokens)"
        for served in server.models
    )
    folders = {name: served.engine.card.folder for name, served in server.models.names().items()}
    registry.enter(host, server.port, folders)
    try:
        print(f"jpaged serves {models} at {url}", flush=True)
    except OSError as error:  # a full disk, say; one may serve without being read
        print(f"jpaged: nobody is told where it serves: {error}", file=sys.stderr)
    if not server.options.is_loopback and not server.options.api_key:
        print("jpaged: anybody who reaches it may use it; set JPAGED_API_KEY", file=sys.stderr)
    warn_of_one_page(server)


def warn_of_one_page(server: Server) -> None:
    """It is enough to serve, and for hardly any request."""
    for served in server.models:
        card = served.engine.card
        if card.num_pages == 1:
            most = f"the {card.page_size} tokens of its one page"
            print(
                f"jpaged: {served.name} holds no more than {most}; raise num_pages", file=sys.stderr
            )
