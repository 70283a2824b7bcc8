"""`jpaged doctor`: what is said of a machine."""

import jax
import pytest

from jpaged.cli import doctor, main
from pallas_kernels import gpu


@pytest.fixture
def on(monkeypatch):
    """Makes the machine look as if a GPU of some capability were JAX's device."""

    def pretend(capability: tuple[int, int]) -> None:
        monkeypatch.setattr(gpu, "is_gpu", lambda: True)
        monkeypatch.setattr(gpu, "compute_capability", lambda: capability)

    return pretend


def said(capsys, *argv: str) -> str:
    assert main(["doctor", *argv]) == 0
    return capsys.readouterr().out


def test_it_names_versions_devices_and_who_attends(capsys):
    told = said(capsys, "demo")

    for name in ("jpaged", "jax", "jaxlib", "driver", "devices", "CPU kernels", "attention"):
        assert f"\n{name} " in f"\n{told}"
    assert jax.__version__ in told
    assert "native" in told or "reference" in told


def test_without_a_model_it_looks_at_the_machine_only(capsys):
    assert "attention" not in said(capsys)


def test_a_gpu_that_is_too_old_is_named_with_what_serves_instead(capsys, on):
    on((7, 5))

    told = said(capsys, "demo")

    assert "sm_75" in told
    assert "plain XLA serves here" in told
    assert "single tokens: reference" in told


def test_a_gpu_that_jax_does_not_see_is_told_with_the_extra_to_install(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "has_nvidia", lambda: True)
    assert "jpaged[cuda13]" in said(capsys)


def test_a_gpu_of_today_has_nothing_to_complain_of(on):
    on((9, 0))
    assert doctor.warnings() == []
