"""The page at `/`: what it is fed, and what a browser makes of it."""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import needs_browser
from devtools import Tab, browsing
from servers import Running, eventually, running

from jpaged.scheduling.report import Holding, PageReport
from jpaged.server.page.page_api import Viewer
from jpaged.server.page.snapshots import cells_of, runs, shared_pages, state_of
from jpaged.server.progress import Progress
from jpaged.server.serve import Exit

SLOW = {"pretend": "constant:0.01"}
KEY = {"authorization": "Bearer secret"}
LONG: Any = {"prompt": "Once upon a time", "max_tokens": 120, "stream": True}


@pytest.fixture(scope="module")
def slow_server() -> Iterator[Running]:
    with running(SLOW) as server:
        yield server


@pytest.fixture(scope="module")
def guarded() -> Iterator[Running]:
    with running(SLOW, api_key=("secret",)) as server:
        yield server


@pytest.fixture(scope="module")
def shared_tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browsing(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture
def tab(shared_tab: Tab, slow_server: Running) -> Iterator[Tab]:
    shared_tab.problems.clear()
    shared_tab.open(slow_server.url + "/")
    shared_tab.until("byId('model').value === 'demo' && byId('state').textContent")
    yield shared_tab
    assert shared_tab.problems == []
    assert slow_server.call(slow_server.service.idle(5.0))


def snapshots(server: Running, count: int, **options: Any) -> list[dict[str, Any]]:
    found = []
    with server.client(**options) as http, http.stream("GET", "/page/watch?model=demo") as stream:
        for line in stream.iter_lines():
            if line:
                found.append(json.loads(line.removeprefix("data: ")))
            if len(found) == count:
                break
    return found


def report(holdings: list[Holding], cached: tuple[int, ...], num_pages: int) -> PageReport:
    held = {page for each in holdings for page in each.pages}
    return PageReport(
        num_pages=num_pages,
        page_size=4,
        held=len(held),
        shared=0,
        cached=len(cached),
        free=num_pages - len(held) - len(cached),
        unshared=0,
        num_empty=0,
        swapped=0,
        host_pages=0,
        holdings=tuple(holdings),
        cached_pages=cached,
    )


def holding(request_id: str, *pages: int, index: int = 0) -> Holding:
    return Holding(request_id, index, len(pages), 0, 4 * len(pages), pages)


def test_cells_show_who_holds_what_and_the_eldest_of_those_who_share():
    holdings = [holding("b", 1, 4), holding("a", 1, 2), holding("b", 2, index=1)]
    moment = report(holdings, cached=(5,), num_pages=7)

    cells = cells_of(moment, ["a", "b"], per_cell=1)

    assert cells == [0, 2, 2, 0, 3, 1, 0]
    assert shared_pages(moment.holdings) == {1, 2}
    assert runs(cells) == [0, 1, 2, 2, 0, 1, 3, 1, 1, 1, 0, 1]


def test_samples_of_one_request_share_too():
    moment = report([holding("a", 0, 1), holding("a", 0, 2, index=1)], cached=(), num_pages=3)

    assert cells_of(moment, ["a"], per_cell=1) == [2, 2, 2]
    assert shared_pages(moment.holdings) == {0}


def test_of_a_large_cache_a_cell_is_several_pages():
    moment = report([holding("a", 3), holding("b", 8)], cached=(2, 6), num_pages=10)

    assert cells_of(moment, ["a", "b"], per_cell=3) == [1, 2, 3, 0]


def test_a_request_waits_runs_pauses_and_leaves():
    begun, over = Progress(first=1.0), Progress(first=1.0, finish_reasons={0: "stop", 1: "stop"})

    assert state_of(False, Progress(), 2) == "waiting"
    assert state_of(True, Progress(), 2) == state_of(True, begun, 2) == "running"
    assert state_of(False, begun, 2) == "preempted"
    assert state_of(False, over, 2) == "leaving"


def test_an_engine_names_the_pages_it_counts(slow_server: Running):
    with slow_server.client() as http, http.stream("POST", "/v1/completions", json=LONG) as stream:
        lines = stream.iter_lines()  # to forget it is to leave
        next(lines)
        moment = slow_server.call(slow_server.engine.page_report())

    held = {page for each in moment.holdings for page in each.pages}
    assert len(held) == moment.held > 0
    assert len(moment.cached_pages) == moment.cached
    assert not held & set(moment.cached_pages)


def test_snapshots_add_up_and_follow_the_engine(slow_server: Running):
    reader = threading.Thread(target=lambda: _read(slow_server, LONG))
    reader.start()
    assert eventually(lambda: slow_server.num_pages_held() > 0)
    first, *_, last = snapshots(slow_server, 4)
    reader.join()

    for each in (first, last):
        assert each["num_held"] + each["num_cached"] + each["num_free"] == each["num_pages"] == 512
        assert sum(each["cells"][1::2]) == 512
        pairs = zip(each["cells"][::2], each["cells"][1::2], strict=True)
        held = sum(count for who, count in pairs if who >= 2)
        assert held == each["num_held"]
    [before], [after] = first["requests"], last["requests"]
    assert before["id"] == after["id"]
    assert (before["state"], before["num_prompt"]) == ("running", 4)
    assert after["num_said"] > before["num_said"]
    assert after["num_pages"] > before["num_pages"]
    assert first["tokens_per_second"] is None
    assert 0 < last["tokens_per_second"] < 110  # a step takes 10 ms or more


def _read(server: Running, fields: Any) -> None:
    with server.client() as http:
        http.post("/v1/completions", json=fields)


def test_who_waits_is_listed(slow_server: Running):
    fields = {**LONG, "max_tokens": 60}
    readers = [threading.Thread(target=_read, args=(slow_server, fields)) for _ in range(9)]
    for each in readers:
        each.start()
    assert eventually(lambda: slow_server.engine.stats.num_waiting)
    [snapshot] = snapshots(slow_server, 1)
    for each in readers:
        each.join()

    states = sorted(row["state"] for row in snapshot["requests"])
    assert states == ["running"] * 8 + ["waiting"]


def test_nothing_is_watched_when_nobody_watches(slow_server: Running):
    num_listeners = len(slow_server.engine.listeners)
    snapshots(slow_server, 2)

    assert eventually(lambda: len(slow_server.engine.listeners) == num_listeners)


def test_all_who_watch_a_model_see_the_same(slow_server: Running):
    watches: dict[Any, Any] = {}

    async def watch() -> bool:
        served = slow_server.service.models.find("demo")
        viewers = [Viewer(watches, slow_server.service, served) for _ in range(2)]
        first, second = [await anext(viewer.events()) for viewer in viewers]
        await viewers[0].close()
        assert list(watches) == [served]
        await viewers[1].close()
        return first == second

    assert slow_server.call(watch())
    assert watches == {}


def test_a_watch_ends_when_the_server_drains():
    with running(SLOW) as server, server.client() as http:
        with http.stream("GET", "/page/watch") as stream:
            lines = stream.iter_lines()
            next(lines)
            server.stop()
            began = time.monotonic()
            assert len(list(lines)) < 5
        server.close()
        assert time.monotonic() - began < 3
        assert server.exit is Exit.DRAINED


def test_the_page_is_one_answer_that_may_run_its_own_script_only(slow_server: Running):
    with slow_server.client() as http:
        answer = http.get("/")

    policy = answer.headers["content-security-policy"]
    for tag, kind in (("script", "script-src"), ("style", "style-src")):
        [text] = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    addresses = set(re.findall(r"https?://[^\s\"')]+", answer.text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert len(answer.content) < 100_000


def test_unknown_models_cannot_be_watched(slow_server: Running):
    with slow_server.client() as http:
        assert http.get("/page/watch?model=nothing").status_code == 404


def test_without_a_key_there_is_the_page_and_nothing_in_it(guarded: Running):
    with guarded.client() as http:
        page = http.get("/")
        assert page.status_code == 401
        assert "API key" in page.text and "demo" not in page.text
        for path in ("/page/models", "/page/watch", "/?x=1/page/models"):
            assert http.get(path).status_code == 401
        assert http.post("/", json={}).json()["error"]["type"] == "AuthenticationError"
        wrong = http.get("/", headers={"authorization": "Bearer wrong"})
        assert (wrong.status_code, wrong.headers["content-type"]) == (401, "application/json")
        assert http.get("/", headers=KEY).status_code == 200
    assert len(snapshots(guarded, 1, headers=KEY)) == 1


def say(tab: Tab, text: str) -> None:
    tab.js("byId('prompt').focus()")
    tab.type(text)
    tab.press("Enter")


ANSWER = "document.querySelector('#log .assistant .text')?.textContent.length ?? 0"


@needs_browser
def test_an_answer_streams_pages_move_and_escape_stops_it(tab: Tab, slow_server: Running):
    picture = "byId('pages').toDataURL()"
    empty = tab.js(picture)

    say(tab, "Tell me a story about a fox.")
    tab.until(f"({ANSWER}) > 20")
    length, moment = tab.js(ANSWER), tab.until(f"{picture} !== {json.dumps(empty)} && {picture}")
    tab.until(f"({ANSWER}) > {length}")
    tab.until(f"{picture} !== {json.dumps(moment)}")
    tab.until("document.querySelector('#requests .yours')")
    assert re.search(r"[1-9]\d* held", tab.js("byId('pages').ariaLabel"))
    assert tab.js("byId('send').disabled && !byId('stop').disabled")
    [started] = slow_server.service.live
    assert started.request.id == tab.js("document.querySelector('#requests tr').dataset.id")

    tab.press("Escape")

    assert eventually(lambda: not slow_server.service.live)
    tab.until("document.querySelector('.assistant .meta').textContent.startsWith('stopped')")
    tab.until("/ 0 held/.test(byId('pages').ariaLabel)")
    assert tab.js("!byId('send').disabled && document.activeElement === byId('prompt')")


@needs_browser
def test_the_picture_tells_free_cached_held_and_shared_pages_apart(tab: Tab):
    moment = {
        "num_pages": 4,
        "page_size": 4,
        "pages_per_cell": 1,
        "num_held": 2,
        "num_shared": 1,
        "num_cached": 1,
        "num_free": 1,
        "cells": [0, 1, 1, 1, 2, 2],
        "shared": [3],
        "requests": [{"id": "a", "num_pages": 2, "num_tokens": 8}],
    }
    look = (
        f"(() => {{ picture.show({json.dumps(moment)});"
        "const context = byId('pages').getContext('2d');"
        "const at = (x, y) => context.getImageData(x, y, 1, 1).data.join();"
        "return [0, 1, 2, 3].map(cell => [at(16 * cell + 2, 2), at(16 * cell + 7, 7)]) })()"
    )

    corners, middles = zip(*tab.js(look), strict=True)

    assert len(set(corners)) == 3 and corners[2] == corners[3]
    assert middles[:3] == corners[:3]
    assert middles[3] != corners[3]


@needs_browser
def test_a_conversation_goes_on_with_what_was_said(tab: Tab, slow_server: Running):
    asked = []
    slow_server.service.listeners.append(lambda started, _: asked.append(started.ask.messages))
    tab.js("byId('max-tokens').value = 5")

    say(tab, "Hello")
    tab.until("document.querySelectorAll('.meta').length === 1")
    said = tab.js("document.querySelector('.assistant .text').textContent")
    say(tab, "And then?")
    tab.until("document.querySelectorAll('.meta').length === 2")
    slow_server.service.listeners.pop()

    assert tab.js("document.querySelector('.meta').textContent").startswith("5 tokens")
    assert asked[1] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": said},
        {"role": "user", "content": "And then?"},
    ]


@needs_browser
def test_several_answers_come_beside_each_other(tab: Tab):
    tab.js("byId('max-tokens').value = 6; byId('samples').value = 3")

    say(tab, "Hello")
    tab.until("document.querySelectorAll('.meta').length === 1")

    texts = tab.js("[...document.querySelectorAll('.assistant .text')].map(e => e.textContent)")
    assert len(set(texts)) == 3 and all(texts)


@needs_browser
def test_a_model_without_a_template_goes_on_with_texts(tab: Tab, slow_server: Running):
    served = slow_server.service.models.find("demo")
    template, served.chat_template = served.chat_template, None
    tab.open(slow_server.url + "/?")
    tab.until("byId('model').value === 'demo'")
    served.chat_template = template
    tab.js("byId('max-tokens').value = 5")

    say(tab, "Once upon a time")
    tab.until("document.querySelector('.continued .meta')")

    assert tab.js("document.querySelector('input[value=chat]').disabled")
    assert tab.js("document.querySelector('.given .text').textContent") == "Once upon a time"
    assert tab.js("document.querySelector('.continued .text').textContent")


@needs_browser
def test_what_the_server_refuses_is_told_and_given_back(tab: Tab):
    say(tab, "word " * 600)
    tab.until("document.querySelector('.wrong')")

    assert "max_model_len" in tab.js("document.querySelector('[role=alert]').textContent")
    assert tab.js("byId('prompt').value").startswith("word word")
    [problem] = tab.problems
    assert "400" in problem
    tab.problems.clear()


@needs_browser
def test_keys_tell_of_each_page_and_come_back_to_the_prompt(tab: Tab):
    tab.js("byId('pages').focus()")
    for _ in range(3):
        tab.press("ArrowRight")
    assert tab.js("byId('tip').textContent").startswith("page 2\n")

    tab.press("/")

    assert tab.js("document.activeElement === byId('prompt') && byId('prompt').value === ''")
    assert tab.js("byId('tip').hidden")


@needs_browser
def test_choosing_a_model_by_its_keys_leaves_them_there(
    tab: Tab, slow_server: Running, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(slow_server.service.models._aliases, "bear", "demo")
    tab.open(slow_server.url + "/?")
    tab.until("byId('model').options.length === 2 && document.activeElement === byId('prompt')")
    tab.js("byId('model').focus()")

    tab.press("ArrowDown")

    tab.until("byId('model').value === 'bear'")
    assert tab.js("document.activeElement === byId('model')")


@needs_browser
def test_everything_that_can_be_used_has_a_name(tab: Tab):
    nameless = tab.js(
        "[...document.querySelectorAll('button, input, select, textarea, canvas, [tabindex]')]"
        ".filter(e => !(e.ariaLabel || e.textContent.trim() || e.labels?.[0]?.textContent.trim()))"
        ".map(e => e.outerHTML)"
    )
    assert nameless == []


@needs_browser
def test_it_is_dark_where_the_system_is_and_fits_a_narrow_window(tab: Tab):
    background = "getComputedStyle(document.body).backgroundColor"
    light = tab.js(background)
    tab.prefer("dark")
    dark = tab.until(f"{background} !== {json.dumps(light)} && {background}")
    tab.js("byId('theme').click()")
    assert tab.js(background) == light != dark
    tab.prefer("light")
    tab.size(360, 800)
    assert tab.js("document.documentElement.scrollWidth") <= 360
    tab.do("Emulation.clearDeviceMetricsOverride")


@needs_browser
def test_a_page_that_needs_a_key_asks_until_it_has_the_right_one(tmp_path: Path, guarded: Running):
    with browsing(tmp_path / "user") as tab:
        tab.open(guarded.url + "/")
        for key in ("wrong", "secret"):
            tab.until("byId('key-dialog').open")
            tab.type(key)
            tab.press("Enter")
            tab.until(f"sessionStorage.getItem('jpaged-key') === '{key}'")
        tab.until("byId('model').value === 'demo'")
        tab.js("byId('max-tokens').value = 5")
        say(tab, "Hello")
        tab.until("document.querySelector('.assistant .meta')")
        assert "5 tokens" in tab.js("document.querySelector('.meta').textContent")
        assert not tab.js("byId('key-dialog').open")
