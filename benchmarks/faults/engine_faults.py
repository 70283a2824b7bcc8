"""The engine's process is killed, stopped, or stuck."""

import signal
import time

from answers import Load, Loop, stream
from row import PATIENCE, STEPS, Row, begun, now, row, undisturbed
from served import eventually

MANY = [stream(400, seed) for seed in range(32)]
AGAIN = (*STEPS, "--engine-restarts", "3")


@row("1", "engine killed (SIGKILL) while idle")
def killed_idle(row: Row) -> None:
    with row.serving() as server:
        server.engine.kill()
        row.others = "none"
        row.dies(server, 3)


@row("1r", "the same with `--engine-restarts 3`")
def killed_idle_and_begun_anew(row: Row) -> None:
    """It answers again after `seconds`."""
    with row.serving(*AGAIN) as server:
        began = now()
        server.engine.kill()
        row.expect(eventually(lambda: server.health() == 503, 2), "health did not say so")
        row.expect(eventually(lambda: server.health() == 200, 20), "no other one was begun")
        row.seconds, row.others = now() - began, "none"
        row.lives(server)


@row("2", "engine killed in the middle of a prompt")
def killed_in_a_prompt(row: Row) -> None:
    """Eight streams run; prompts of 900 tokens are in the step that dies."""
    with row.serving() as server:
        load = begun(server, MANY[:8])
        late = Load(server.address, [stream(10, n, prompt=[n + 5] * 900) for n in range(4)])
        time.sleep(0.3)
        began = now()
        server.engine.kill()
        late.join(PATIENCE)
        row.expect(set(late.kinds) == {"refused 503"}, f"the prompts ended {dict(late.kinds)}")
        row.harmed(load, began)
        row.dies(server, 3)


@row("3", "engine killed while 32 streams are read")
def killed_decoding(row: Row) -> None:
    with row.serving() as server:
        load = begun(server, MANY)
        began = now()
        server.engine.kill()
        row.harmed(load, began)
        row.dies(server, 3)


@row("4", "engine killed under load, with `--engine-restarts 3`")
def killed_under_load(row: Row) -> None:
    """16 clients ask again and again; the first whole answer comes after `seconds`."""
    with row.serving(*AGAIN) as server:
        load = Loop(server.address, 16, lambda number: stream(20, number))
        time.sleep(2)
        began = now()
        server.engine.kill()
        row.expect(eventually(lambda: server.health() == 503, 2), "health did not say so")
        row.expect(eventually(lambda: server.health() == 200, 20), "no other one was begun")
        time.sleep(2)
        load.stop()
        row.tally(load, "whole", "failed", "refused")
        # what was whole within half a second may have been on its way already
        row.seconds = min(
            ended - began
            for kind, ended in load.outcomes
            if kind == "whole" and ended > began + 0.5
        )
        row.lives(server)


@row("5", "engine stopped (SIGSTOP) for ten seconds, then SIGCONT")
def stopped(row: Row) -> None:
    """Health says 503 after the five seconds of `--engine-patience`; new requests are refused."""
    with row.serving() as server:
        expected = undisturbed(server, MANY)
        load = begun(server, MANY)
        server.engine.send_signal(signal.SIGSTOP)
        row.expect(eventually(lambda: server.health() == 503, 7), "health did not say so")
        refused = Load(server.address, [stream(3)])
        refused.join(PATIENCE)
        row.expect(set(refused.kinds) == {"refused 503"}, f"new ones ended {dict(refused.kinds)}")
        time.sleep(3)
        server.engine.send_signal(signal.SIGCONT)
        row.unharmed(load, expected)
        row.lives(server)


@row("10", "API process killed (SIGKILL) while 32 streams are read")
def server_killed(row: Row) -> None:
    """Nobody is left to say an error: the connections break."""
    with row.serving() as server:
        load = begun(server, MANY)
        began = now()
        server.process.kill()
        row.harmed(load, began, "cut")
        row.dies(server, -signal.SIGKILL)
