"""How a tensor's name and layout in a checkpoint become those of a parameter.

    Rule("layers.{i}.self_attn.{p:q|k|v}_proj.weight", "blocks.{i}.attn.{p}.weight", transpose)

`{i}` stands for a number, `{p:q|k|v}` for one of the words.  The tables of rules are the
documentation of the formats.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Transform = Callable[[np.ndarray], tuple[np.ndarray, ...]]


def keep(tensor: np.ndarray) -> tuple[np.ndarray, ...]:
    return (tensor,)


def transpose(tensor: np.ndarray) -> tuple[np.ndarray, ...]:
    """[out, in] -> [in, out]; a bias stays as it is."""
    return (tensor.T,)


def split_in_three(tensor: np.ndarray) -> tuple[np.ndarray, ...]:
    """Queries, keys and values side by side in the last axis (GPT-2's c_attn)."""
    return tuple(np.split(tensor, 3, axis=-1))


@dataclass(frozen=True)
class Rule:
    """`source` is a pattern over checkpoint names, `targets` what it becomes, in the order of
    the transform's results.  An optional rule is skipped where the model lacks the target (a
    tied head that the checkpoint stores all the same)."""

    source: str
    targets: str | tuple[str, ...]
    transform: Transform = transpose
    optional: bool = False

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = re.split(r"\{(\w+)(?::([^}]*))?\}", self.source)
        pattern = ""
        for literal, name, words in zip(
            parts[::3], parts[1::3] + [None], parts[2::3] + [None], strict=True
        ):
            pattern += re.escape(literal)
            if name is not None:
                pattern += f"(?P<{name}>{words or '[0-9]+'})"
        return re.compile(pattern)

    def match(self, name: str) -> tuple[str, ...] | None:
        """The parameters' names if the rule is for this tensor, else None."""
        found = self._pattern.fullmatch(name)
        if found is None:
            return None
        targets = (self.targets,) if isinstance(self.targets, str) else self.targets
        return tuple(_fill(target, found.groupdict()) for target in targets)


def _fill(target: str, values: Mapping[str, str]) -> str:
    return target.format_map(values)


@dataclass(frozen=True)
class Table:
    """A family's rules.  `prefix` is one that some checkpoints carry and others do not;
    `ignored` matches buffers that hold no parameter."""

    rules: tuple[Rule, ...]
    prefix: str = ""
    ignored: str = r"(?!)"

    def find(self, name: str) -> tuple[Rule, tuple[str, ...]] | None:
        for rule in self.rules:
            targets = rule.match(name) or rule.match(name.removeprefix(self.prefix))
            if targets is not None:
                return rule, targets
        return None

    def ignores(self, name: str) -> bool:
        return re.fullmatch(self.ignored, name) is not None
