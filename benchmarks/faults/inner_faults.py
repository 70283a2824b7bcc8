"""Exceptions in a step or in one request's options; no memory; steps and texts without end."""

import signal
import tempfile
import time

from answers import Load, chat, stream
from row import PATIENCE, STEPS, Row, begun, now, row, undisturbed
from served import eventually

MODEL = ("--max-num-seqs", "4", "--max-num-batched-tokens", "16", "--max-model-len", "128")
REAL = (*MODEL, "--num-pages", "512", "--page-size", "4", "--warmup", "full")
SIX = [stream(100, seed, temperature=1.0) for seed in range(6)]


@row("18", "an exception in a step")
def in_a_step(row: Row) -> None:
    """Eight seats for twelve: the eight in the step fail, the four that wait are served."""
    with row.serving(*STEPS, "--max-num-seqs", "8", fault="step") as server:
        load = Load(server.address, [stream(300, seed) for seed in range(12)])
        assert eventually(lambda: load.has_begun(8), 10)
        server.engine.send_signal(signal.SIGUSR1)
        load.join(30)
        row.tally(load, "failed", "refused", "whole")
        row.expect(load.kinds["whole"] == 4, "those that waited were not served")
        row.lives(server)


@row("19", "an exception in one request's sampler, the real model")
def in_a_sampler(row: Row) -> None:
    with row.serving(*REAL, fault="sampler") as server:
        witnesses = SIX[:3]
        expected = undisturbed(server, witnesses)
        load = Load(server.address, witnesses)
        began = now()
        bad = Load(server.address, [stream(50, logit_bias={"7": 1.0})])
        bad.join(PATIENCE)
        row.expect(set(bad.kinds) == {"refused 500"}, f"the cursed one ended {dict(bad.kinds)}")
        row.seconds = bad.seconds_since(began)
        row.unharmed(load, expected)
        row.lives(server)


@row("20", "XLA's RESOURCE_EXHAUSTED in a step of the real model (injected)")
def no_memory(row: Row) -> None:
    """Four seats for six: the four in the step fail, the two that wait are served."""
    with row.serving(*REAL, fault="memory") as server:
        load = Load(server.address, SIX)
        assert eventually(lambda: load.has_begun(4), 20)
        server.engine.send_signal(signal.SIGUSR1)
        load.join(30)
        row.tally(load, "failed", "refused", "whole")
        row.expect(load.kinds["whole"] >= 2, "those that waited were not served")
        row.lives(server)


@row("20c", "the same, and the cache is lost with the step; `--engine-restarts 1`")
def no_memory_and_no_cache(row: Row) -> None:
    with row.serving(*REAL, "--engine-restarts", "1", fault="memory-and-cache") as server:
        load = Load(server.address, SIX)
        assert eventually(lambda: load.has_begun(4), 20)
        began = now()
        server.engine.send_signal(signal.SIGUSR1)
        row.harmed(load, began)
        row.expect(eventually(lambda: server.health() == 200, 40), "no other one was begun")
        row.lives(server)


@row("25", "a step that never ends")
def stuck(row: Row) -> None:
    """Only the server's two minutes would tell it from a long one; its clients are told at once
    when a second SIGTERM ends it."""
    with row.serving(fault="stuck") as server:
        load = begun(server, SIX)
        server.engine.send_signal(signal.SIGUSR1)
        time.sleep(1)
        row.expect(server.health() == 200, "a step of a second is taken for stuck")
        began = now()
        for _ in range(2):
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        row.harmed(load, began)
        row.code = server.exit_code(20)
        row.dies(server, 4)


@row("26", "a chat template that never ends")
def endless_template(row: Row) -> None:
    """With `--chat-template-timeout 1`; the second chat waits for the first."""
    with Endless() as template:
        flags = ("--chat-template", template, "--chat-template-timeout", "1")
        with row.serving(*STEPS, *flags) as server:
            expected = undisturbed(server, SIX)
            load = begun(server, SIX)
            began = now()
            chats = Load(server.address, [chat("Hello"), chat("Hello")])
            chats.join(10)
            row.seconds = chats.seconds_since(began)
            row.expect(set(chats.kinds) == {"refused 400"}, f"chats ended {dict(chats.kinds)}")
            row.unharmed(load, expected)
            row.lives(server)


class Endless:
    """A template, in a file."""

    TEXT = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}" * 99

    def __enter__(self) -> str:
        self.file = tempfile.NamedTemporaryFile("w", suffix=".jinja")
        self.file.write(self.TEXT)
        self.file.flush()
        return self.file.name

    def __exit__(self, *_: object) -> None:
        self.file.close()


@row("27", "texts of eight megabytes to encode")
def endless_text(row: Row) -> None:
    """Two at once, without a space, of which only the last ten tokens are wanted: a core of the
    server's is busy for `seconds`."""
    text = "a" * 7_900_000
    with row.serving() as server:
        expected = undisturbed(server, SIX)
        load = begun(server, SIX)
        began = now()
        large = Load(server.address, [stream(3, prompt=text, truncate_prompt_tokens=10)] * 2)
        row.unharmed(load, expected)
        row.note += f" The longest gap of the others was {1000 * longest_gap(load):.0f} ms."
        large.join(60)
        row.seconds = large.seconds_since(began)
        row.expect("waits" not in large.kinds, "they are never answered")
        row.note += f" They ended: {dict(large.kinds)}."
        row.lives(server)


def longest_gap(load: Load) -> float:
    return max(
        later - sooner
        for each in load.answers
        for sooner, later in zip(each.firsts, each.firsts[1:], strict=False)
    )
