"""Asks the policy, which is somebody else's code: whatever it says or raises must cost no request.

One that raises is replaced by first come, first served.  Hence the broad excepts here, and nowhere
else.
"""

import math
import operator
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from typing import Any

from jpaged.errors import PolicyWarning
from jpaged.scheduling.policy import Fcfs, Policy, Wish
from jpaged.scheduling.prefix import CachedPage
from jpaged.scheduling.request import Request, Sequence
from jpaged.scheduling.view import View


class Counsel:
    """The policy, and what it answers, made sure to be of the right kind.

    error: what the one before it raised, if it was replaced.  num_ignored: what policies proposed
    that is no wish.
    """

    def __init__(self, policy: Policy):
        self.policy = policy
        self.error: Exception | None = None
        self.num_ignored = 0

    def wishes(self, view: View) -> Iterator[Wish]:
        """The well-formed wishes, as many as there can be sensible ones."""
        limit = 4 * (len(view.running) + len(view.waiting)) + 16  # it may propose for ever
        policy = self.policy  # its `victim` may fail, and be replaced, while it proposes
        try:
            for wish in policy.propose(view):
                if type(wish) is tuple and len(wish) == 2 and type(wish[1]) is int:
                    if isinstance(wish[0], Sequence):
                        yield wish
                elif (plain := _as_wish(wish)) is not None:
                    yield plain
                else:
                    self._ignore(policy, wish)
                limit -= 1
                if not limit:
                    return
        except Exception as error:
            self._replace(policy, error)
            yield from self.policy.propose(view)

    def _ignore(self, policy: Policy, wish: object) -> None:
        self.num_ignored += 1
        if self.num_ignored == 1:
            warnings.warn(
                f"policy {type(policy).__name__} proposed {wish!r:.100}, which is no wish and is "
                "passed over, as others like it will be; a wish is (sequence, most tokens)",
                PolicyWarning,
                stacklevel=3,
            )

    def victim(self, view: View) -> Sequence:
        policy = self.policy
        try:
            return policy.victim(view)
        except Exception as error:
            self._replace(policy, error)
            return self.policy.victim(view)

    def wants_swap(self, view: View, victim: Sequence, otherwise: bool) -> bool:
        return bool(self._ask("wants_swap", otherwise, view, victim))

    def preempted(self, view: View) -> list[Sequence]:
        """Those among the running who are to give way."""
        running = set(view.running)

        def named(preempt: Callable[[View], Any]) -> list[Sequence]:
            # it may name them for ever
            found = list(islice(preempt(view) or (), 4 * len(running) + 16))
            return [each for each in found if isinstance(each, Sequence) and each in running]

        return self._ask_with("preempt", named, [])

    def refusal(self, view: Callable[[], View], request: Request) -> str | None:
        """view: made only for a policy that looks; there may be thousands of requests."""
        reason = self._ask_with("refuse", lambda refuse: refuse(view(), request), None)
        return None if reason is None else str(reason)

    def wake_at(self, view: View) -> float:
        """When to ask again; in the past if it does not want to wait."""
        at = self._ask("wake_at", None, view)
        is_time = isinstance(at, int | float) and math.isfinite(at)
        return at if is_time else -math.inf

    def page_to_evict(self, pages: Collection[int], known: Mapping[int, CachedPage]) -> int:
        """The idle page of lowest rank, if the policy ranks them; else the first."""
        return self._ask_with(
            "evict_rank",
            lambda rank: min(pages, key=lambda page: rank(known[page])),
            next(iter(pages)),
        )

    def tell(self, what: str, *facts: Any) -> None:
        """Calls `on_arrival`, `on_step` or `on_finish`."""
        self._ask(what, None, *facts)

    def _ask(self, what: str, otherwise: Any, *arguments: Any) -> Any:
        def answer(method: Callable[..., Any]) -> Any:
            said = method(*arguments)
            return otherwise if said is None else said

        return self._ask_with(what, answer, otherwise)

    def _ask_with(self, what: str, use: Callable[[Callable[..., Any]], Any], otherwise: Any) -> Any:
        """Uses a method of the policy, if it has one of its own."""
        policy = self.policy
        method = getattr(policy, what, None)
        if method is None or getattr(method, "__func__", method) is getattr(Policy, what):
            return otherwise
        try:
            return use(method)
        except Exception as error:
            self._replace(policy, error)
            return otherwise

    def _replace(self, policy: Policy, error: Exception) -> None:
        name = type(policy).__name__
        self.policy, self.error = Fcfs(), error
        warnings.warn(
            f"policy {name} raised {type(error).__name__}: {error}; "
            "first come, first served replaces it, no request is lost",
            PolicyWarning,
            stacklevel=2,
        )


def _as_wish(wish: object) -> Wish | None:
    """A pair of another kind, as a list or with numpy's numbers; None if it is none."""
    if not isinstance(wish, tuple | list) or len(wish) != 2 or not isinstance(wish[0], Sequence):
        return None
    try:
        return wish[0], operator.index(wish[1])
    except TypeError:
        return None
