"""Clients that go away, read slowly or not at all, or vanish; and more work than there is room."""

import os
import socket
import subprocess
import threading
import time
from contextlib import ExitStack

from answers import Load, stream
from row import STEPS, Row, begun, now, row, undisturbed
from served import Served, eventually

WITNESSES = [stream(400, seed) for seed in range(8)]
LONG = stream(900)
VANISHED = "127.0.0.2"  # whose packets go nowhere, in a network of its own


def asking(server: Served, asked: bytes, source: str = "", buffer: int = 2304) -> socket.socket:
    """A connection that has asked, and reads nothing by itself."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    if source:
        sock.bind((source, 0))
    sock.settimeout(10)
    sock.connect(server.address)
    sock.sendall(asked)
    return sock


def leave(server: Served, count: int, asked: bytes, begin: bool) -> None:
    """So many ask, ten at a time, and go away; `begin`: when something has come."""
    for _ in range(count // 10):
        with ExitStack() as stack:
            socks = [stack.enter_context(asking(server, asked)) for _ in range(10)]
            for sock in socks if begin else ():
                assert sock.recv(16)
            eventually(lambda: server.live() >= 10 + len(WITNESSES), 2)


@row("11", "20 clients go away before their first token")
def gone_before(row: Row) -> None:
    """In the middle of a prompt of 900 tokens each."""
    with row.serving() as server:
        expected = undisturbed(server, WITNESSES)
        load = begun(server, WITNESSES)
        leave(server, 20, stream(10, prompt=list(range(5, 905))), begin=False)
        row.unharmed(load, expected)
        row.lives(server)


@row("12", "100 clients go away in the middle")
def gone_meanwhile(row: Row) -> None:
    with row.serving() as server:
        expected = undisturbed(server, WITNESSES)
        load = begun(server, WITNESSES)
        leave(server, 100, LONG, begin=True)
        row.unharmed(load, expected)
        row.lives(server)


@row("13", "20 clients go away in the queue")
def gone_in_the_queue(row: Row) -> None:
    """Eight seats, taken by the others."""
    with row.serving(*STEPS, "--max-num-seqs", "8") as server:
        expected = undisturbed(server, WITNESSES)
        load = begun(server, WITNESSES)
        leave(server, 20, LONG, begin=False)
        row.expect(eventually(lambda: server.live() <= 8, 2), "they are still queued")
        row.unharmed(load, expected)
        row.lives(server)


@row("14", "50 clients that read a byte a second")
def slow(row: Row) -> None:
    """900 tokens with log-probabilities each, about a megabyte."""
    asked = stream(900, logprobs=20)
    with row.serving() as server, ExitStack() as stack:
        expected = undisturbed(server, WITNESSES)
        socks = [stack.enter_context(asking(server, asked)) for _ in range(50)]
        load = begun(server, WITNESSES)
        for _ in range(6):
            time.sleep(1)
            for sock in socks:
                assert sock.recv(1)
        row.unharmed(load, expected)
        is_back = eventually(lambda: not server.metric("kv_cache_usage_perc"), 20)
        row.expect(is_back, "pages wait for who reads slowly")
        row.note += f" When all was said, {server.live()} were still written to."
        stack.close()
        row.lives(server)


@row("15", "20 half-open connections: their hosts vanish while they are answered")
def vanished(row: Row) -> None:
    """No packet reaches them any more; with `limits.STALLED_SECONDS` at 3 (it is 120), they are
    given up after `seconds`."""
    thread = threading.Thread(target=in_a_network_of_its_own, args=(row,))
    thread.start()
    thread.join()


def in_a_network_of_its_own(row: Row) -> None:
    """In a thread: it moves there, and what it begins is there, too."""
    try:
        os.unshare(os.CLONE_NEWNET)
    except PermissionError:
        row.note = "Not run: it needs a network namespace, and so root."
        return
    ip("link", "set", "lo", "up")
    with row.serving(fault="stalled") as server:
        expected = undisturbed(server, WITNESSES)
        load = begun(server, WITNESSES)
        socks = [asking(server, LONG, source=VANISHED) for _ in range(20)]
        assert all(sock.recv(16) for sock in socks)
        ip("route", "add", "blackhole", VANISHED, "table", "local")
        began = now()
        row.unharmed(load, expected)
        gone = eventually(lambda: server.live() == 0, 30)
        row.seconds = now() - began
        row.expect(gone, f"{server.live()} are still waited for")
        row.lives(server)
        for sock in socks:
            sock.close()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@row("15h", "20 clients that send half a request and fall silent")
def half_a_request(row: Row) -> None:
    """Refused with 408 after `seconds`: ten for headers, twenty for a body."""
    with row.serving() as server, ExitStack() as stack:
        expected = undisturbed(server, WITNESSES)
        load = begun(server, WITNESSES)
        began = now()
        halves = [stream(3)[:40], stream(3)[:-5]] * 10
        socks = [stack.enter_context(asking(server, half)) for half in halves]
        row.unharmed(load, expected)
        for sock in socks:
            sock.settimeout(25)
            row.expect(b" 408 " in sock.recv(4096), "not refused")
        row.seconds = now() - began
        row.lives(server)


@row("16", "four times more tokens than pages")
def too_few_pages(row: Row) -> None:
    """Eight streams of 300 tokens, pages for 640: some give way and are computed again."""
    asked = [stream(290, seed) for seed in range(8)]
    with row.serving(*STEPS, "--num-pages", "40") as server:
        pairs = zip(asked[::2], asked[1::2], strict=True)
        expected = [text for pair in pairs for text in undisturbed(server, list(pair))]
        row.unharmed(Load(server.address, asked), expected, 60)
        count = server.metric("num_preemptions_total")
        row.expect(count > 0, "nobody gave way")
        row.note += f" {count:.0f} times here."
        row.lives(server)


@row("17", "a prompt larger than all pages")
def too_large(row: Row) -> None:
    with row.serving(*STEPS, "--num-pages", "40") as server:
        witnesses = WITNESSES[:2]
        expected = undisturbed(server, witnesses)
        load = begun(server, witnesses)
        began = now()
        refused = Load(server.address, [stream(3, prompt=list(range(5, 905)))])
        refused.join(5)
        row.seconds = refused.seconds_since(began)
        row.expect(set(refused.kinds) == {"refused 400"}, f"it ended {dict(refused.kinds)}")
        row.unharmed(load, expected)
        row.lives(server)
