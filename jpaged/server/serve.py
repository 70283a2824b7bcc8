"""Runs a server: what begins and ends when, and what signals mean.

    engines ready ─► port opens ─► serving ─► SIGTERM: drain ─► nothing in flight ─► engines close
                                                 └─ a second one, or the time is up: abort ─┘

The port is taken before the engines load, so that a wrong one is told at once, and listens when
they are ready.  While it drains it still listens: /health says 503, so that nobody sends more.
"""

import asyncio
import contextlib
import enum
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence

import uvicorn

from jpaged.errors import ConfigError
from jpaged.server import limits
from jpaged.server.admission import Admission
from jpaged.server.app import build_app
from jpaged.server.chat_template import Templates
from jpaged.server.models import Launch, Models, split_name
from jpaged.server.options import ServerOptions
from jpaged.server.service import Service
from jpaged.server.sse import outermost
from jpaged.server.wire import LimitedHttp

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT)
FLUSH_SECONDS = 2.0  # for answers that are on their way to slow readers
WATCH_SECONDS = 0.5


class Exit(enum.IntEnum):
    """Why a server ended, as its exit code.  2 is for wrong flags, as everywhere."""

    DRAINED = 0  # all that had begun was finished
    FAILED = 1  # it could not start
    ENGINE_DIED = 3
    ABORTED = 4  # some requests were cut off: a second signal, or --shutdown-timeout was over


class Uvicorn(uvicorn.Server):
    """uvicorn without its signals, which would end streams that only need some more seconds."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Server:
    """models: (name, name@version; path).  launch: makes an engine from a name and a path."""

    def __init__(
        self,
        models: Sequence[tuple[str, str]],
        launch: Launch,
        options: ServerOptions,
        aliases: Sequence[str] = (),
    ):
        self._wanted, self._aliases, self.options = models, tuple(aliases), options
        self.models = Models(self._new_admission, launch, _template_of(options))
        self.templates = Templates(options.chat_template_timeout)
        self.service = Service(self.models, self.templates, options.request_timeout)
        self.port = options.port
        self._stopped, self._insisted = asyncio.Event(), asyncio.Event()

    def _new_admission(self) -> Admission:
        options = self.options
        return Admission(
            options.max_num_queued_reqs,
            options.max_num_queued_tokens,
            options.max_requests_per_key,
        )

    async def run(
        self,
        on_ready: Callable[["Server"], None],
        on_loaded: Callable[["Server"], None] = lambda _: None,
    ) -> Exit:
        """Serves until `stop`, or until an engine dies.  Raises what loading raises.

        on_loaded: called when its engines are there, before anybody is answered; on_ready: after
        that.
        """
        with listening(self.options) as sock:
            self.port = sock.getsockname()[1]
            # the first chat waits for it, if it is quicker than an interpreter starts
            begin = asyncio.ensure_future(self.templates.begin())
            try:
                await self._load()
                on_loaded(self)
                return await self._serve(sock, on_ready)
            finally:
                begin.cancel()
                await asyncio.gather(begin, return_exceptions=True)
                await self.models.close()
                await self.templates.close()

    async def _load(self) -> None:
        for number, (reference, path) in enumerate(self._wanted):
            name, version = split_name(reference)
            await self.models.load(name, version, path)
            self.models.alias(name, self._aliases if number == 0 else ())

    async def _serve(self, sock: socket.socket, on_ready: Callable[["Server"], None]) -> Exit:
        http = Uvicorn(uvicorn_config(self.service, self.options))
        serving = asyncio.ensure_future(http.serve(sockets=[sock]))
        try:
            while not http.started:
                await asyncio.sleep(0.01)
            on_ready(self)
            code = await self._until_over()
        finally:
            http.should_exit = True
            await serving
        return code

    def stop(self) -> None:
        """Drains, and ends then.  A second call ends it at once."""
        (self._insisted if self._stopped.is_set() else self._stopped).set()

    def stop_on_signals(self) -> None:
        """SIGTERM and SIGINT mean `stop` from now on."""
        for each in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(each, self.stop)

    async def _until_over(self) -> Exit:
        while not self._stopped.is_set():
            if not self.models.are_alive:
                log.error("an engine died")
                await self.service.idle(FLUSH_SECONDS)  # its streams are being told
                return Exit.ENGINE_DIED
            await _soon(self._stopped.wait(), WATCH_SECONDS)
        return await self._drain()

    async def _drain(self) -> Exit:
        """Lets everything finish, until the time is up or somebody insists."""
        self.service.drain()
        idle = asyncio.ensure_future(self.service.idle(self.options.shutdown_timeout))
        insisted = asyncio.ensure_future(self._insisted.wait())
        await asyncio.wait((idle, insisted), return_when=asyncio.FIRST_COMPLETED)
        is_idle = idle.done() and idle.result()
        for each in (idle, insisted):
            each.cancel()
        if is_idle:
            return Exit.DRAINED
        count = self.service.abort_all()
        log.warning("%d requests were cut off", count)
        await self.service.idle(FLUSH_SECONDS)
        return Exit.ABORTED if count else Exit.DRAINED


async def _soon[T](work: Coroutine[None, None, T], seconds: float) -> T | None:
    """What it comes to within so many seconds, or None."""
    try:
        return await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return None


@contextlib.contextmanager
def listening(options: ServerOptions) -> Iterator[socket.socket]:
    """The port, taken.  It does not answer yet.  Raises `ConfigError` if somebody else has it."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # named as TCP, or asyncio would leave Nagle's algorithm on: tokens would wait for each other
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # connections have it from the socket they came to
            milliseconds = int(1000 * limits.STALLED_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        try:
            sock.bind((options.host, options.port))
        except OSError as error:
            raise ConfigError(
                f"cannot listen at {options.host}:{options.port} ({error.strerror or error}); "
                "choose another --host or --port"
            ) from error
        yield sock


def _template_of(options: ServerOptions) -> str | None:
    if options.chat_template is None:
        return None
    with open(options.chat_template, encoding="utf-8") as file:
        return file.read()


def uvicorn_config(service: Service, options: ServerOptions) -> uvicorn.Config:
    return uvicorn.Config(
        outermost(build_app(service, options)),
        loop="uvloop",
        http=LimitedHttp,
        ws="none",
        lifespan="off",
        proxy_headers=False,  # whoever may speak for others is not known
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=4096,
        timeout_graceful_shutdown=int(FLUSH_SECONDS),
    )
