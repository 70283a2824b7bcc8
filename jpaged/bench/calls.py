"""What is sent, and what is measured of it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Call:
    """A request.  arrival: the second it is due, or how long after the turn before it has ended.

    prompt: a text, or token ids; of a later turn, what comes behind all that was said before.
    """

    prompt: str | tuple[int, ...]
    num_output: int
    arrival: float = 0.0
    then: "Call | None" = None

    @property
    def num_turns(self) -> int:
        return 1 + (0 if self.then is None else self.then.num_turns)


@dataclass
class Answer:
    """Times are of `time.perf_counter`.  chunks: when something came.  error: "" if none."""

    due: float
    begin: float = 0.0
    end: float = 0.0
    chunks: list[float] = field(default_factory=list)
    num_prompt: int = 0
    num_output: int = 0
    token_ids: list[int] = field(default_factory=list)
    error: str = ""

    @property
    def ttft(self) -> float:
        return self.chunks[0] - self.begin

    @property
    def latency(self) -> float:
        """Until the last token, as the user sees it."""
        return self.chunks[-1] - self.begin

    @property
    def tpot(self) -> float | None:
        """A token after the first takes so long, on average.  None if there is but one."""
        if self.num_output < 2:
            return None
        return (self.latency - self.ttft) / (self.num_output - 1)

    @property
    def gaps(self) -> list[float]:
        return [late - early for early, late in zip(self.chunks, self.chunks[1:], strict=False)]
