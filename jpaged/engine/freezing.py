"""An engine's host state as bytes, and back: queues, sequences, tables, beams, texts, policy.

The state is plain Python objects of our own classes, so pickling all of it together keeps who
shares what with whom.  What is not state stays outside: the tokenizer, and on disk a policy that
is not ours.  A pickle can run code, so one that comes from a file may name nothing but classes of
jpaged and a few of Python's own.
"""

import io
import pickle
from typing import Any

from jpaged.engine.tokenizer import Tokenizer
from jpaged.errors import SnapshotMismatch
from jpaged.scheduling.cost import Costs
from jpaged.scheduling.policy import Policy

PLAIN = {
    ("builtins", "set"),
    ("builtins", "frozenset"),
    ("collections", "deque"),
    ("collections", "OrderedDict"),
    ("collections", "Counter"),
    ("array", "array"),
    ("array", "_array_reconstructor"),
    ("random", "Random"),
    ("_random", "Random"),
}


def freeze(state: Any, left_out: Policy | None = None) -> bytes:
    """The state's bytes, without the tokenizer, and without a policy if one is to be left out."""
    buffer = io.BytesIO()
    try:
        _Freezer(buffer, left_out).dump(state)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise SnapshotMismatch(
            f"the engine's state cannot be written down: {error}; a policy must hold plain data, "
            "no open files, generators or lambdas"
        ) from error
    return buffer.getvalue()


def thaw(
    frozen: bytes, tokenizer: Tokenizer | None, policy: Policy | None, is_trusted: bool
) -> Any:
    """The state again, with this tokenizer; `policy` stands where one was left out.

    is_trusted: whether these bytes were frozen in this process.
    """
    return _Thawer(frozen, tokenizer, policy, is_trusted).load()


class _Freezer(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO, left_out: Policy | None):
        super().__init__(buffer, protocol=5)
        self.left_out = left_out

    def persistent_id(self, obj: Any) -> str | None:
        if isinstance(obj, Tokenizer):
            return "tokenizer"
        if isinstance(obj, Costs):  # the model in it may be anybody's
            return "costs"
        return "policy" if obj is self.left_out and obj is not None else None


class _Thawer(pickle.Unpickler):
    def __init__(
        self, frozen: bytes, tokenizer: Tokenizer | None, policy: Policy | None, is_trusted: bool
    ):
        super().__init__(io.BytesIO(frozen))
        self.outside = {"tokenizer": tokenizer, "policy": policy, "costs": None}
        self.is_trusted = is_trusted

    def persistent_load(self, pid: str) -> Any:
        return self.outside[pid]

    def find_class(self, module_name: str, global_name: str) -> Any:
        is_plain = (module_name, global_name) in PLAIN
        if not self.is_trusted and not is_plain and not module_name.startswith("jpaged."):
            raise SnapshotMismatch(
                f"the snapshot names {module_name}.{global_name}; it is not ours"
            )
        try:
            found = super().find_class(module_name, global_name)
        except (ImportError, AttributeError) as error:
            raise SnapshotMismatch(
                f"the snapshot names {module_name}.{global_name}, which this jpaged has not"
            ) from error
        # a class, and one of that very module: not what the module happens to have imported
        is_class = isinstance(found, type) and found.__module__ == module_name
        if not self.is_trusted and not is_plain and not is_class:
            raise SnapshotMismatch(f"the snapshot names {module_name}.{global_name}: no class")
        return found
