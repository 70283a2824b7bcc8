"""Who is soonest done goes first: the least mean latency, if one knew."""

from jpaged.errors import ConfigError
from jpaged.policies.prediction import Learned, Oracle, Predictor
from jpaged.policies.ranked import Ranked
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View


class ShortestJob(Ranked):
    """Lets in who is expected to say the fewest tokens; a second of waiting counts as `aging`.

    Without ageing (0) a stream of short answers starves a long one.  Who says more than was
    expected is asked for again, and if that is no more, believed to be half way.  Only the order of
    predictions matters much: Fu et al., "Efficient LLM Scheduling by Learning to Rank", NeurIPS
    2024.  predictor: unless one is given, what the request's terms say, and where they say nothing
    what is `Learned` from those before it.
    """

    def __init__(self, predictor: Predictor | None = None, aging: float = 0.0):
        if not aging >= 0:
            raise ConfigError(f"aging must be at least 0 tokens a second, not {aging}")
        self.predictor = Oracle(Learned()) if predictor is None else predictor
        self.aging = aging
        self.expected: dict[str, float] = {}  # by request, tokens in all

    def rank(self, sequence: Sequence, view: View) -> float:
        return self.expect(sequence) - self.aging * (view.now - sequence.arrival)

    def expect(self, sequence: Sequence) -> float:
        """Tokens that it is believed to say in all."""
        said, total = sequence.num_generated, self.expected.get(sequence.request.id)
        if total is None or total <= said:
            total = self.predictor.predict(sequence)
            total = total if total > said else 2.0 * said
            self.expected[sequence.request.id] = total
        return total

    def on_finish(self, sequence: Sequence, now: float) -> None:
        self.expected.pop(sequence.request.id, None)
        if sequence.finish_reason != "abort":
            self.predictor.learn(sequence)


class ShortestRemaining(ShortestJob):
    """Runs who has the fewest tokens left to say, and pushes out who has more, if that is early in
    its life: in its first `early` part.

    Late ones hold much and are soon done.  early=1 is shortest remaining processing time, 0 never
    pushes anybody out.  Shahout et al., "Don't Stop Me Now: Embedding Based Scheduling for LLMs"
    (TRAIL), ICLR 2025, whose predictions are renewed at every token, from the model's own states.
    """

    def __init__(self, predictor: Predictor | None = None, aging: float = 0.0, early: float = 0.8):
        super().__init__(predictor, aging)
        if not 0 <= early <= 1:
            raise ConfigError(f"early must be a share from 0 to 1, not {early}")
        self.early = early
        self.preempts = early > 0

    def rank(self, sequence: Sequence, view: View) -> float:
        left = self.expect(sequence) - sequence.num_generated
        return left - self.aging * (view.now - sequence.arrival)

    def may_give_way(self, sequence: Sequence, view: View) -> bool:
        return sequence.num_generated < self.early * self.expect(sequence)
