"""Runs a server: sockets, signals, and the order in which things begin and end."""

import uvicorn

from jpaged.server.app import build_app
from jpaged.server.options import ServerOptions
from jpaged.server.service import Service


def uvicorn_config(service: Service, options: ServerOptions) -> uvicorn.Config:
    return uvicorn.Config(
        build_app(service, options),
        host=options.host,
        port=options.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=4096,
    )
