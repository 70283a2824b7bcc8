"""Which line of a policy it was, so that a warning can name it."""

import inspect
from traceback import walk_tb
from types import GeneratorType
from typing import NamedTuple


class Place(NamedTuple):
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def raised_at(policy: object, what: str, error: BaseException) -> Place:
    """The innermost line of the policy's own modules that an error came through, not of those that
    it inherits from us, if there is another.

    what: the method that was called; its first line, where the error is in what it answered.
    """
    modules = {kind.__module__ for kind in type(policy).__mro__}
    passed = [
        (frame.f_globals.get("__name__", ""), Place(frame.f_code.co_filename, line))
        for frame, line in walk_tb(error.__traceback__)
    ]
    passed = [(module, place) for module, place in passed if module in modules]
    own = [place for module, place in passed if not module.startswith("jpaged.")]
    return [defined_at(policy, what), *(place for _, place in passed), *own][-1]


def said_at(policy: object, what: str, answer: object) -> Place:
    """The line at which a generator stands; of any other answer the method's first line."""
    while isinstance(answer, GeneratorType) and isinstance(answer.gi_yieldfrom, GeneratorType):
        answer = answer.gi_yieldfrom
    if not isinstance(answer, GeneratorType) or answer.gi_frame is None:
        return defined_at(policy, what)
    return Place(answer.gi_code.co_filename, answer.gi_frame.f_lineno)


def defined_at(policy: object, what: str) -> Place:
    """Where a method of a policy begins."""
    code = getattr(inspect.unwrap(getattr(policy, what)), "__code__", None)
    if code is None:  # some other thing that can be called
        return Place(f"<{type(policy).__module__}>", 0)
    return Place(code.co_filename, code.co_firstlineno)
