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
from jpaged.scheduling.blame import Place, defined_at, raised_at, said_at
from jpaged.scheduling.policy import Fcfs, Policy, Wish
from jpaged.scheduling.prefix import CachedPage
from jpaged.scheduling.request import Request, Sequence, Status
from jpaged.scheduling.view import View

# of what a policy raises; `exit()` in one ends no server, and Ctrl-C comes from elsewhere
RAISED = (Exception, SystemExit)


class Counsel:
    """The policy, and what it answers, made sure to be of the right kind.

    error: what a policy raised that was replaced.  suspect: that one, or else who decides.
    num_ignored: what policies proposed that is no wish.  told: of what its author was warned; of
    each kind once is enough.

    seconds: the policy's own, in `num_timed` steps: one in `timed_one_in`, if there is a
    `stopwatch`.
    """

    def __init__(self, policy: Policy):
        self.policy = policy
        self.error: Exception | SystemExit | None = None
        self.suspect = policy
        self.num_ignored = 0
        self.told: set[str] = set()
        self.stopwatch: Callable[[], float] | None = None
        self.timed_one_in = 1
        self.seconds, self.num_timed = 0.0, 0
        self._is_timed = False

    def __getstate__(self) -> dict[str, Any]:
        """Who decides: an error may be of any class, and the rest is of this engine."""
        return {"policy": self.policy, "num_ignored": self.num_ignored}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Counsel.__init__(self, state["policy"])
        self.num_ignored = state["num_ignored"]

    def change(self, policy: Policy) -> None:
        """Asks another one from now on."""
        self.policy = self.suspect = policy
        self.told = set()

    def begin_step(self, number: int) -> None:
        """Whatever is asked from now on belongs to this step."""
        is_due = (number - 1) % self.timed_one_in == 0
        self._is_timed = is_due and self.stopwatch is not None
        self.num_timed += self._is_timed

    def wishes(self, view: View) -> Iterator[Wish]:
        """The well-formed wishes, as many as there can be sensible ones."""
        found = self._wishes(view)
        return self._timed(found) if self._is_timed else found

    def _wishes(self, view: View) -> Iterator[Wish]:
        limit = 4 * (len(view.running) + len(view.waiting)) + 16  # it may propose for ever
        policy = self.policy  # its `victim` may fail, and be replaced, while it proposes
        try:
            proposed = policy.propose(view)
            for wish in proposed:
                if type(wish) is tuple and len(wish) == 2 and type(wish[1]) is int:
                    if isinstance(wish[0], Sequence):
                        yield wish
                elif (plain := _as_wish(wish)) is not None:
                    yield plain
                else:
                    self._ignore(policy, wish, said_at(policy, "propose", proposed))
                limit -= 1
                if not limit:
                    return
        except PolicyWarning:  # our own, where warnings are errors
            raise
        except RAISED as error:
            self._replace(policy, "propose", error)
            yield from self.policy.propose(view)

    def _timed(self, wishes: Iterator[Wish]) -> Iterator[Wish]:
        """The same; what the scheduler does between two of them is not the policy's time."""
        asked = self._time()
        for wish in wishes:
            self.seconds += self._time() - asked
            yield wish
            asked = self._time()
        self.seconds += self._time() - asked

    def _time(self) -> float:
        return self.stopwatch() if self._is_timed and self.stopwatch else 0.0

    def _ignore(self, policy: Policy, wish: object, place: Place) -> None:
        self.num_ignored += 1
        self._warn(
            "nonsense",
            policy,
            f"proposed {wish!r:.100}, which is no wish and is passed over, as others like it will "
            f"be ({place}); a wish is (sequence, most tokens)",
            place,
        )

    def victim(self, view: View) -> Sequence:
        policy, asked = self.policy, self._time()
        try:
            chosen = policy.victim(view)
            if not isinstance(chosen, Sequence) or chosen.status is not Status.RUNNING:
                self._doubt(policy, chosen)
            return chosen
        except PolicyWarning:
            raise
        except RAISED as error:
            self._replace(policy, "victim", error)
            return self.policy.victim(view)
        finally:
            self.seconds += self._time() - asked

    def _doubt(self, policy: Policy, chosen: object) -> None:
        place = defined_at(policy, "victim")
        self._warn(
            "victim",
            policy,
            f"named {chosen!r:.100} as the victim, which is no running sequence; whoever came last "
            f"gives way instead, and for others like it ({place}); choose one of view.running",
            place,
        )

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
        asked = self._time()
        try:
            return use(method)
        except RAISED as error:
            self._replace(policy, what, error)
            return otherwise
        finally:
            self.seconds += self._time() - asked

    def _replace(self, policy: Policy, what: str, error: Exception | SystemExit) -> None:
        self.policy, self.suspect, self.error = Fcfs(), policy, error
        place = raised_at(policy, what, error)
        self._warn(
            str(place),
            policy,
            f"raised {type(error).__name__}: {error} ({place}); "
            "first come, first served replaces it, no request is lost",
            place,
        )

    def _warn(self, kind: str, policy: Policy, said: str, place: Place) -> None:
        """Once for each kind: whoever begins an engine after another is told anew, which
        `warnings.warn` would not do."""
        if kind not in self.told:
            self.told.add(kind)
            text = f"policy {type(policy).__name__} {said}"
            warnings.warn_explicit(text, PolicyWarning, place.file, place.line)


def _as_wish(wish: object) -> Wish | None:
    """A pair of another kind, as a list or with numpy's numbers; None if it is none."""
    if not isinstance(wish, tuple | list) or len(wish) != 2 or not isinstance(wish[0], Sequence):
        return None
    try:
        return wish[0], operator.index(wish[1])
    except TypeError:
        return None
