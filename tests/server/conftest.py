"""Servers that several modules share: one costs a second, compiling a model's steps more."""

from collections.abc import Iterator

import pytest
from servers import DEMO, Running, running


@pytest.fixture(scope="session")
def shared_demo_server() -> Iterator[Running]:
    with running(DEMO) as server:
        yield server


@pytest.fixture(scope="session")
def shared_pretending_server() -> Iterator[Running]:
    with running() as server:
        yield server


@pytest.fixture
def demo_server(shared_demo_server: Running) -> Iterator[Running]:
    """The bundled model, for tests that read what it says.  Nothing may be left over."""
    yield shared_demo_server
    _assert_idle(shared_demo_server)


@pytest.fixture
def server(shared_pretending_server: Running) -> Iterator[Running]:
    """An engine that computes nothing, for tests of all else.  Nothing may be left over."""
    yield shared_pretending_server
    _assert_idle(shared_pretending_server)


def _assert_idle(server: Running) -> None:
    assert server.call(server.service.idle(5.0))
    assert server.num_pages_held() == 0
    with server.client() as client:
        assert client.get("/health").status_code == 200
        assert client.get("/load").json() == {"server_load": 0}
