"""A look at a workload before it is used: how many, how fast, how long, how much is shared."""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from jpaged.simulator.workload.request import TimedRequest
from jpaged.simulator.workload.tokens import Tokens

CHUNK = 16  # tokens; plain prompts are compared by so many at once
SHOWN = 12  # clients


@dataclass(frozen=True)
class Spread:
    """Tokens: the mean, quantiles and the most."""

    mean: float
    p50: int
    p90: int
    p99: int
    most: int

    @classmethod
    def of(cls, values: Iterable[int]) -> "Spread":
        ranked = sorted(values)
        if not ranked:
            return cls(0.0, 0, 0, 0, 0)
        p50, p90, p99 = (ranked[int(at * (len(ranked) - 1))] for at in (0.5, 0.9, 0.99))
        return cls(statistics.fmean(ranked), p50, p90, p99, ranked[-1])

    def row(self, name: str) -> str:
        return f"{name:24}{self.mean:9.1f}{self.p50:9,}{self.p90:9,}{self.p99:9,}{self.most:9,}"


@dataclass(frozen=True)
class Asker:
    """What one client asks for."""

    num_requests: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, repr=False)
class Summary:
    """What a workload is made of; prints as a table.

    num_arrivals: requests whose time is settled, all but later turns of sessions.  seconds: from
    the first of them to the last.  rate: of them a second.  burstiness: the coefficient of
    variation of the gaps between them, 1 is Poisson's.  prompts: tokens with all that was said in
    turns before.  shareable: the share of prompt tokens that an earlier request began with, or
    that were said in turns before: what a cache without limits would find, but for the few tokens
    of a page that are not worth a copy.
    """

    num_requests: int
    num_arrivals: int
    seconds: float
    rate: float
    burstiness: float
    prompts: Spread
    outputs: Spread
    shareable: float
    clients: dict[str, Asker]

    def __str__(self) -> str:
        later = self.num_requests - self.num_arrivals
        turns = f", and {later:,} later turns" if later else ""
        lines = [
            f"{self.num_arrivals:,} arrivals in {self.seconds:,.1f} s{turns}",
            f"{self.rate:.3g} a second, gaps vary by {self.burstiness:.2f} (Poisson: 1)",
            f"{self.shareable:.1%} of prompt tokens could be shared",
            "",
            f"{'tokens':24}{'mean':>9}{'p50':>9}{'p90':>9}{'p99':>9}{'most':>9}",
            self.prompts.row("prompts"),
            self.outputs.row("outputs"),
        ]
        return "\n".join([*lines, *self._table()])

    __repr__ = __str__

    def _table(self) -> Iterator[str]:
        """A row a client, if there are several."""
        if len(self.clients) < 2:
            return
        yield ""
        yield f"{'client':24}{'requests':>9}{'share':>9}{'prompts':>9}{'outputs':>9}   (means)"
        for name, each in islice(self.clients.items(), SHOWN):
            prompt, output = (each.prompt_tokens, each.output_tokens)
            means = f"{prompt / each.num_requests:9.1f}{output / each.num_requests:9.1f}"
            share = (prompt + output) / sum(
                other.prompt_tokens + other.output_tokens for other in self.clients.values()
            )
            yield f"{name or '(none)':24}{each.num_requests:9,}{share:9.1%}{means}"
        if len(self.clients) > SHOWN:
            yield f"and {len(self.clients) - SHOWN} more"


def summary(workload: Iterable[TimedRequest]) -> Summary:
    """Counts, rate, lengths and what could be shared.  It goes through an iterator to its end."""
    arrivals, prompts, outputs = list[float](), list[int](), list[int]()
    asked, asks, says = Counter[str](), Counter[str](), Counter[str]()
    seen, num_shared = Seen(), 0
    for first in workload:
        arrivals.append(first.arrival)
        num_shared += seen.add(first.prompt)
        num_said = 0
        for turn in first.turns:
            num_shared += num_said
            prompts.append(num_said + len(turn.prompt))
            outputs.append(turn.num_output)
            asked[turn.terms.client] += 1
            asks[turn.terms.client] += prompts[-1]
            says[turn.terms.client] += outputs[-1]
            num_said += turn.num_final
    gaps = [after - before for before, after in pairwise(arrivals)]
    seconds = arrivals[-1] - arrivals[0] if arrivals else 0.0
    return Summary(
        num_requests=len(prompts),
        num_arrivals=len(arrivals),
        seconds=seconds,
        rate=len(gaps) / seconds if seconds else 0.0,
        burstiness=statistics.pstdev(gaps) * len(gaps) / seconds if seconds else 0.0,
        prompts=Spread.of(prompts),
        outputs=Spread.of(outputs),
        shareable=num_shared / sum(prompts) if prompts else 0.0,
        clients={name: Asker(count, asks[name], says[name]) for name, count in asked.most_common()},
    )


class Seen:
    """What prompts began with so far."""

    def __init__(self):
        self._most: dict[int, int] = {}  # tokens of a piece behind what stands before it

    def add(self, prompt: Sequence[int]) -> int:
        """How many of its tokens an earlier prompt began with; the last one never counts, since
        it is computed for what follows it."""
        behind, num_shared = 0, 0
        for name, count in _pieces(prompt):
            place = hash((behind, name))
            most = self._most.get(place, 0)
            num_shared += min(count, most)
            self._most[place] = max(count, most)
            behind = hash((place, count))  # nobody has been there who had not all of this
        return min(num_shared, len(prompt) - 1)


def _pieces(prompt: Sequence[int]) -> Iterator[tuple[object, int]]:
    """Names of pieces and their lengths; equal names are equal tokens as far as they go."""
    if isinstance(prompt, Tokens):
        for source, number, count in prompt.pieces():
            yield (source, number), count
        return
    for start in range(0, len(prompt), CHUNK):
        chunk = tuple(prompt[start : start + CHUNK])
        yield chunk, len(chunk)
