"""Policies and routers by name, ours and one's own: made as it is written, or refused with what is
wrong and where."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from jpaged import ConfigError
from jpaged.policies import EarlyRejection, Noisy, Sarathi, ShortestRemaining, resolve
from jpaged.simulator import Constant, Roofline, Router
from jpaged.simulator.makers import named, policy_maker, policy_of, router_of
from jpaged.simulator.routers import Disaggregated, LeastLoaded, Rebalancing

COST = Constant(step=0.02)
MINE = """
    from beside import WIDTH

    from jpaged import Policy
    from jpaged.simulator import Router

    class Narrow(Policy):
        def __init__(self, width: int = WIDTH, **rest):
            self.width, self.rest = width, rest

        def propose(self, view):
            return []

    class Plain:
        pass

    class Idle(Policy):
        pass

    class First(Router):
        def route(self, replicas, request):
            return 0

    class NoRouter:
        def route(self, replicas, request):
            return 0

    def narrowest():
        return Narrow(1)

    def nobody():
        return 3

    def fussy(width: int):
        raise TypeError("no width is right")

    SEVEN = 7
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with `mine.py`, in which one stands."""
    (tmp_path / "beside.py").write_text("WIDTH = 4")
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE))
    (tmp_path / "torn.py").write_text("def f(:\n")
    (tmp_path / "hasty.py").write_text("raise ValueError('not now')")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text("from mine import Narrow as Theirs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_names_are_parted_by_commas_that_do_not_go_on_with_options():
    text = "fcfs, srpt:predictor=Noisy(0.5, seed=1),aging=2 ,mine.py:Narrow:width=3"
    assert named(text) == [
        "fcfs",
        "srpt:predictor=Noisy(0.5, seed=1),aging=2",
        "mine.py:Narrow:width=3",
    ]


def test_a_policy_is_made_with_its_options():
    policy = policy_of("srpt:predictor=Noisy(0.5,seed=7),aging=2.5")

    assert isinstance(policy, ShortestRemaining) and policy.aging == 2.5
    assert isinstance(policy.predictor, Noisy)
    assert (policy.predictor.sigma, policy.predictor.seed) == (0.5, 7)
    around = policy_of("early_rejection:inner=Sarathi(chunk=64)")
    assert isinstance(around, EarlyRejection) and isinstance(around.inner, Sarathi)


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("mine.py:Narrow", 4),
        ("mine.py:Narrow:width=2,more=[1,2]", 2),
        ("mine.py:narrowest", 1),
        ("package.module:Theirs:width=3", 3),
    ],
)
def test_a_policy_of_ones_own_is_found_in_a_file_or_a_module(text, width):
    policy = policy_of(text)

    assert resolve(policy) is policy and vars(policy)["width"] == width


def test_a_file_is_run_once():
    assert policy_maker("mine.py:Narrow") is policy_maker("mine.py:Narrow")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sarahti:chunk=3", r"no policy 'sarahti' \(did you mean 'sarathi'\?\).* mine.py:MyPolicy"),
        ("sarathi:chunks=3", "'sarathi:chunks=3': sarathi has no option 'chunks'; it takes chunk"),
        ("fcfs:chunk=3", "fcfs has no option 'chunk'; it takes none"),
        ("priority:aging=-1", "'priority:aging=-1': aging must be above 0 seconds"),
        ("sjf:predictor=Nosiy(1)", "there is no Nosiy; there are .*Noisy"),
        ("sjf:predictor=Noisy()", "'Noisy\\(\\)': .* missing 1 required .* 'sigma'"),
        ("yours.py:Narrow", "there is no file yours.py .in /"),
        ("mine.py:Wide", "mine.py has no 'Wide'; there is Narrow, Idle"),
        ("mine.py", "mine.py is a file; say what of it: mine.py:NAME; there is Narrow, Idle"),
        ("mine.py:SEVEN", "mine.py:SEVEN is 7; name a class, or what makes a policy"),
        ("mine.py:Plain", r"/mine.py:14: Plain has no method propose and no victim; derive it"),
        ("mine.py:Idle", r"/mine.py:17: Idle has no method propose; derive it from jpaged.Policy"),
        ("mine.py:nobody", "'mine.py:nobody': policy 3 has no method propose"),
        ("mine.py:fussy", "'mine.py:fussy': fussy lacks width; it takes width"),
        ("mine.py:fussy:width=3", "'mine.py:fussy:width=3': no width is right"),
        ("torn.py:Any", r"torn.py cannot be run: SyntaxError: .*line 1"),
        ("hasty.py:Any", "hasty.py cannot be run: ValueError: not now"),
        ("nowhere.module:Any", "there is no module nowhere, neither installed nor in /"),
        ("package.other:Any", "there is no module package.other, neither"),
    ],
)
def test_a_policy_that_is_none_is_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        policy_of(text)


def test_a_router_is_made_as_a_policy_is():
    assert isinstance(router_of("mine.py:First", COST), Router)
    router = router_of("rebalancing:place=LeastLoaded(by=tokens),low=8", COST)
    assert isinstance(router, Rebalancing) and isinstance(router.place, LeastLoaded)
    assert (router.place.by, router.low, router.token_seconds) == ("tokens", 8, 0.0)


def test_copies_of_pages_take_what_the_cost_model_says():
    costs = Roofline.of("llama-8b", "H200")
    plain, said = (
        router_of(f"disaggregated:{rest}", costs) for rest in ("", "num_prefill=2,token_seconds=9")
    )

    assert isinstance(plain, Disaggregated) and plain.token_seconds == costs.token_seconds > 0
    assert isinstance(said, Disaggregated) and (said.num_prefill, said.token_seconds) == (2, 9)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prefix_afinity", r"no router 'prefix_afinity' \(did you mean 'prefix_affinity'"),
        ("least_loaded:by=luck", "'least_loaded:by=luck': load is measured by requests or tokens"),
        ("mine.py:NoRouter", r"mine.py:24: NoRouter is no Router; derive it from jpaged.simulator"),
        ("mine.py:Plain", "Plain has no method route"),
    ],
)
def test_a_router_that_is_none_is_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        router_of(text, COST)
