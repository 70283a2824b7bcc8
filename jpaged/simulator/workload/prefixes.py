"""Prompts that begin alike, as a tree: a system prompt, examples or a document below it, …

level 0   all begin with the system prompt                      branching 1
level 1   one of 4 sets of examples, some more often            branching 4
level 2   one of 16 documents below each of them                branching 16
          and then each prompt has its own question
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Unpack

from jpaged.errors import ConfigError
from jpaged.simulator.lengths import SHAREGPT
from jpaged.simulator.workload.arrivals import gamma
from jpaged.simulator.workload.laws import Counts, Law, Zipf, as_law, check_counts, drawn
from jpaged.simulator.workload.request import Asked, TimedRequest
from jpaged.simulator.workload.tokens import Passage


@dataclass(frozen=True)
class PrefixTree:
    """Prefixes of one node a level.

    branching: at each level, the children of a node.  num_tokens: at each level, a node's, as a
    number or a law.  exponent: the children of a node are as popular as Zipf's law says; with 0
    all alike.  Workloads that have the same tree share it; other seeds are other trees.
    """

    branching: Sequence[int] = (1, 4, 16)
    num_tokens: Sequence[int | Law] = (256, 128, 512)
    exponent: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.branching or len(self.branching) != len(self.num_tokens):
            raise ConfigError(
                f"branching has {len(self.branching)} levels, num_tokens {len(self.num_tokens)}; "
                "give both for each level, one at least"
            )
        check_counts(**{f"branching[{i}]": count for i, count in enumerate(self.branching)})
        assert self._children and self._lengths  # complain now

    @property
    def num_prefixes(self) -> int:
        """At the lowest level."""
        return math.prod(self.branching)

    def draw(self, rng: Random) -> Passage:
        """A prefix, from the root to the lowest level; takes one number a level from `rng`."""
        number, node = 0, None
        for level, children in enumerate(self._children):
            number = number * children.most + children.draw(rng) - 1
            node = self._node(level, number, node)
        assert node is not None
        return node

    def _node(self, level: int, number: int, above: Passage | None) -> Passage:
        """The same object each time, so that prompts share it."""
        if (level, number) not in self._nodes:
            source = f"{self.seed}/tree/{level}"
            law, rng = self._lengths[level], Random(f"{source}/{number}/length")
            count = drawn(f"num_tokens[{level}]", law, rng)
            self._nodes[level, number] = Passage(source, number, count, above)
        return self._nodes[level, number]

    @cached_property
    def _children(self) -> list[Zipf]:
        return [Zipf(count, self.exponent) for count in self.branching]

    @cached_property
    def _lengths(self) -> list[Law]:
        return [as_law(f"num_tokens[{i}]", each) for i, each in enumerate(self.num_tokens)]

    @cached_property
    def _nodes(self) -> dict[tuple[int, int], Passage]:
        return {}


def shared_prefix_tree(
    rate: float,
    num_requests: int,
    branching: Sequence[int] = (1, 4, 16),
    num_tokens: Sequence[int | Law] = (256, 128, 512),
    exponent: float = 1.0,
    prompt_len: Counts = SHAREGPT.prompts,
    output_len: Counts = SHAREGPT.outputs,
    cv: float = 1.0,
    seed: int = 0,
    **asked: Unpack[Asked],
) -> list[TimedRequest]:
    """Requests that begin with prefixes of a `PrefixTree`; prompt_len is of what follows them.

    cv: of the gaps between arrivals, 1 is Poisson's.
    """
    tree = PrefixTree(branching, num_tokens, exponent, seed)
    return gamma(rate, cv, num_requests, prompt_len, output_len, seed, tree, **asked)
