"""Templates are programs of strangers: what they may do, and for how long."""

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
from servers import PRETEND, running

from jpaged.assets import DEMO_MODEL
from jpaged.engine.tokenizer import Tokenizer
from jpaged.errors import RequestRejected
from jpaged.server.chat_template import Templates

HELLO: Any = [{"role": "user", "content": "Hello <b>you</b>"}]
PLAIN = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
OPTIONS = {"add_generation_prompt": True}


def render(*templates: str, seconds: float = 5.0, options: dict = OPTIONS) -> list[Any]:
    """Of each its text, or the error that it was refused with."""

    async def all_of_them() -> list[Any]:
        worker = Templates(seconds)
        found: list[Any] = []
        try:
            for template in templates:
                try:
                    found.append(await worker.render(template, HELLO, options))
                except RequestRejected as error:
                    found.append(error)
        finally:
            await worker.close()
        return found

    return asyncio.run(all_of_them())


def test_a_chat_is_rendered_as_transformers_renders_it():
    tokenizer = Tokenizer.load(DEMO_MODEL)
    template, words = tokenizer.hf.get_chat_template(), tokenizer.hf.special_tokens_map

    [text] = render(template, options={**words, "add_generation_prompt": True})

    assert text == tokenizer.render_chat(HELLO, add_generation_prompt=True)


MAY_NOT = [
    "{{ ''.__class__.__mro__ }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ messages.append(1) }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{{ raise_exception('no') }}",
    "{{ 1 / 0 }}",
    "{{ undefined.field }}",
    "{% if %}",
    "{{ range(10000000) | list }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
]
SEES_NOTHING = ["{{ messages.__class__ }}", "{{ self._TemplateReference__context }}"]
WITHOUT_END = [
    "{{ 'a' * 2000000000 }}",
    "{% for i in range(1000) %}{{ 'a' * 1000000 }}{% endfor %}",
    "{% set x = namespace(t='a') %}"
    "{% for i in range(40) %}{% set x.t = x.t + x.t %}{% endfor %}{{ x.t }}",
    "{{ 'a' * 20000000 }}",
]
LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def test_what_a_template_may_not_do_is_a_refusal():
    *refused, plain = render(*MAY_NOT, PLAIN)

    for template, error in zip(MAY_NOT, refused, strict=True):
        assert isinstance(error, RequestRejected), template
        assert "chat template refused" in str(error)
    assert plain == "[user] Hello <b>you</b>"


def test_what_a_template_may_not_see_is_not_there():
    assert render(*SEES_NOTHING) == ["", ""]


def test_a_template_that_writes_without_end_is_a_refusal():
    *refused, plain = render(*WITHOUT_END, PLAIN)

    for template, error in zip(WITHOUT_END, refused, strict=True):
        assert isinstance(error, RequestRejected), template
    assert plain == "[user] Hello <b>you</b>"


def test_a_template_that_never_ends_is_killed_and_the_next_one_is_rendered():
    start = time.monotonic()

    refused, plain = render(LOOPS, PLAIN, seconds=0.3)

    assert "0.3 seconds" in str(refused)
    assert plain == "[user] Hello <b>you</b>"
    assert time.monotonic() - start < 5


def test_nothing_is_left_of_what_was_rendered_before():
    keeps = "{% set x = 1 %}{{ namespace(a=1).a }}"

    first, second = render(keeps, "{{ x is defined }}")

    assert (first, second) == ("1", "False")


def test_a_reader_who_gives_up_does_not_leave_his_answer_to_the_next():
    async def impatient() -> str:
        worker = Templates()
        await worker.begin()
        slow = "{% for i in range(99999) %}{% for j in range(30) %}{% endfor %}{% endfor %}slow"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await worker.render(slow, HELLO, OPTIONS)
        try:
            return await worker.render(PLAIN, HELLO, OPTIONS)
        finally:
            await worker.close()

    assert asyncio.run(impatient()) == "[user] Hello <b>you</b>"


def test_a_worker_ends_with_its_server():
    async def begin_and_close() -> list[int]:
        worker, before = Templates(), children()
        await worker.begin()
        begun = [each for each in children() if each not in before]
        await worker.close()
        return begun

    begun = asyncio.run(begin_and_close())

    assert len(begun) == 1
    assert not set(begun) & set(children())


def children() -> list[int]:
    """Processes of ours that render."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if b"jpaged.server.template_worker" in words and int(parent) == os.getpid():
                found.append(int(folder.name))
    return found


def test_a_template_that_hangs_holds_no_other_request_up(tmp_path: Path):
    file = tmp_path / "loops.jinja"
    file.write_text(
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    )
    with (
        running(PRETEND, chat_template=str(file), chat_template_timeout=1.0) as server,
        server.client() as client,
    ):

        async def both() -> tuple[float, int]:
            body = {"messages": HELLO, "max_tokens": 2}
            hangs = asyncio.create_task(
                asyncio.to_thread(lambda: client.post("/v1/chat/completions", json=body))
            )
            await asyncio.sleep(0.2)
            start = time.monotonic()
            quick = await asyncio.to_thread(
                lambda: client.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 2})
            )
            assert quick.status_code == 200
            return time.monotonic() - start, (await hangs).status_code

        seconds, status = asyncio.run(both())

    assert seconds < 0.5
    assert status == 400


def test_a_template_is_told_what_the_client_says_beside_the_messages(server, monkeypatch):
    words: dict[str, Any] = {"city": "Köln", "enable_thinking": False, "tools_on": ["a", 1, None]}
    template = "{{ city }} {{ enable_thinking }} {{ tools_on }} {{ messages[0].content }}"
    monkeypatch.setattr(server.service.models.find(""), "chat_template", template)
    with server.client() as client:
        asked = {"messages": HELLO, "chat_template_kwargs": words}
        tokens = client.post("/tokenize", json=asked).json()["tokens"]
        text = client.post("/detokenize", json={"tokens": tokens}).json()["prompt"]

    assert text == "Köln False ['a', 1, None] Hello <b>you</b>"


def test_a_model_without_a_template_says_so(server, monkeypatch):
    monkeypatch.setattr(server.service.models.find(""), "chat_template", None)
    with server.client() as client:
        answer = client.post("/v1/chat/completions", json={"messages": HELLO})

    assert answer.status_code == 400
    assert "has no chat template" in answer.json()["error"]["message"]
