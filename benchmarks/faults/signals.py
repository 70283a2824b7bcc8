"""SIGTERM: what has begun is finished, or cut off so that everybody knows."""

import signal
import time

from answers import Load, stream
from row import STEPS, Row, begun, now, row, undisturbed
from served import Served, eventually

MANY = [stream(200, seed) for seed in range(32)]
LONG = [stream(900, seed) for seed in range(32)]


@row("6", "SIGTERM while idle")
def idle(row: Row) -> None:
    with row.serving() as server:
        began = now()
        server.process.send_signal(signal.SIGTERM)
        row.dies(server, 0)
        row.seconds, row.others = now() - began, "none"


@row("7", "SIGTERM while 32 streams are read")
def draining(row: Row) -> None:
    """Meanwhile health says 503, and new requests are refused with Retry-After."""
    with row.serving() as server:
        expected = undisturbed(server, MANY)
        load = begun(server, MANY)
        server.process.send_signal(signal.SIGTERM)
        refuses_new_work(row, server)
        row.unharmed(load, expected)
        row.dies(server, 0)


def refuses_new_work(row: Row, server: Served) -> None:
    row.expect(eventually(lambda: server.health() == 503, 1), "health did not say so")
    refused = Load(server.address, [stream(3)])
    refused.join(5)
    [answer] = refused.answers
    row.expect(answer.kind == "refused 503", f"new work ended {answer.kind}")
    row.expect(b"retry-after: " in answer.raw.lower(), "no Retry-After")


@row("8", "SIGTERM with `--shutdown-timeout 1` while 32 streams go on for longer")
def out_of_time(row: Row) -> None:
    with row.serving(*STEPS, "--shutdown-timeout", "1") as server:
        load = begun(server, LONG)
        began = now()
        server.process.send_signal(signal.SIGTERM)
        row.harmed(load, began)
        row.dies(server, 4)


@row("9", "a second SIGTERM while 32 streams are read")
def insisted(row: Row) -> None:
    with row.serving() as server:
        load = begun(server, LONG)
        began = now()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        row.harmed(load, began)
        row.dies(server, 4)
