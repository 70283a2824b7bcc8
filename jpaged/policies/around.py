"""A policy around another one: it says what it has to say, and leaves the rest to that."""

from collections.abc import Iterable
from typing import Any

from jpaged.scheduling.policy import Policy, Wish
from jpaged.scheduling.view import View

HOOKS = frozenset(name for name in vars(Policy) if not name.startswith("_"))


class Around(Policy):
    """Whatever a subclass does not say itself is said by `inner`.

    By passing on its methods, and not by calling them: what `inner` does not say either is not
    even asked for, see `Counsel`.
    """

    def __init__(self, inner: Policy):
        self.inner = inner

    def propose(self, view: View) -> Iterable[Wish]:
        return self.inner.propose(view)

    def __getattribute__(self, name: str) -> Any:
        if name in HOOKS and getattr(type(self), name) is getattr(Policy, name):
            return getattr(self.inner, name)
        return super().__getattribute__(name)
