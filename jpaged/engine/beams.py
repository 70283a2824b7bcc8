"""Which beams go on: the host's side of beam search, a state machine over numbers.

The engine computes the next token's likeliest candidates for every live beam.  From them this
chooses which beams to fork, extend and drop, and which have finished.

    live   a ─┬─ a x           the parent a goes on twice: once extended, once forked
              └─ a y
           b ─── b end ──> finished: the best beam_width, by score
           c                   none of its candidates is good enough: it is dropped

It is the algorithm of Hugging Face transformers' `generate(num_beams=…)`, as of 5.23, in float32
like it, for one prompt.  Of its rules, these are easily got wrong:

- A score is the cumulative log-probability divided by the number of generated tokens to the power
  of `length_penalty`.  The token that ends a sequence counts, in the sum and in the number.
- A candidate that ends finishes only if it is among the best `beam_width` of all; one that ranks
  below is dropped, and never goes on.  The best that do not end go on, at any rank.
- At `max_tokens` the best `beam_width` candidates finish whether or not they end.  They compete by
  score with what finished before.
- The search stops when `beam_width` have finished and `early_stopping` says so: True, at once;
  False, if the best live beam, scored at its length, beats not even the worst of them;
  "never", the same, but scored at `max_tokens` if the penalty favours length.  What a live beam
  would score there is a bound, for its sum can only fall; at its own length, under a positive
  penalty, it is not: False may miss the best.

Two things differ on purpose.  Candidates that tie are taken from the better parent first, then
by the lower token id, and of tied scores the elder stays first: transformers leaves it to
`torch.topk`, which promises no order.  And there are no placeholders of score -1e9: where a
vocabulary is so small that there are fewer than `beam_width` candidates, fewer beams go on and
fewer hypotheses come out, where transformers fills up with copies (which, being finished, may make
`early_stopping=True` stop it sooner).
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from jpaged.beam_search_params import BeamSearchParams


def num_candidates(beam_width: int, num_eos: int) -> int:
    """How many of each beam's likeliest tokens `Beams.advance` needs (all, if there are fewer).

    `num_eos` tokens end a sequence, so among these at least `beam_width` do not: were all other
    beams hopeless, one alone could still be the parent of all that go on.
    """
    return beam_width + num_eos


class Continuation(NamedTuple):
    """A beam of the next step: this parent, one token longer.

    A parent that is named once is extended, one named again is forked first, others are dropped.
    """

    parent: int  # its place among the live beams
    token: int


@dataclass(frozen=True)
class Beam:
    """Generated tokens and their log-probabilities; the sum was added up in float32."""

    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    cumulative_logprob: float = 0.0


@dataclass(frozen=True)
class Hypothesis(Beam):
    """A finished beam.  Its tokens include the one that ended it.

    finish_reason: "stop" or "length".  stop_reason: the stop token's id, or None for an
    end-of-sequence token.
    """

    score: float = 0.0
    finish_reason: str = "length"
    stop_reason: int | None = None


class _Candidate(NamedTuple):
    parent: int
    token: int
    logprob: float
    cumulative_logprob: float


@dataclass
class Beams:
    """One beam search: the beams that go on and the best that have finished.  Plain data.

    `max_tokens` is what the model's length leaves of `params.max_tokens`.

        beams = Beams(params, max_tokens, eos_token_ids)
        while not beams.is_done:  # one live beam at first, the prompt
            continuations = beams.advance(*best_candidates(beams.live))
        best = beams.hypotheses()[0]
    """

    params: BeamSearchParams
    max_tokens: int
    eos_token_ids: frozenset[int] = frozenset()
    live: list[Beam] = field(default_factory=lambda: [Beam()])  # the likeliest first
    finished: list[Hypothesis] = field(default_factory=list)  # the best first

    def __post_init__(self) -> None:
        self.eos_token_ids = frozenset() if self.params.ignore_eos else self.eos_token_ids
        self.end_token_ids = self.eos_token_ids | frozenset(self.params.stop_token_ids or ())

    @property
    def is_done(self) -> bool:
        return not self.live

    @property
    def num_generated(self) -> int:
        """Tokens of each live beam."""
        return len(self.live[0].tokens) if self.live else 0

    def advance(self, tokens: np.ndarray, logprobs: np.ndarray) -> list[Continuation]:
        """Moves one step on and returns the next live beams, in order; none if the search is done.

        tokens: int[num_live, C] and logprobs: float32[num_live, C] are every live beam's likeliest
        next tokens in any order, C at least `num_candidates`, or the whole vocabulary.  Tokens of
        log-probability -inf are none.
        """
        width, live, ended, continuations = self.params.beam_width, [], [], []
        for rank, candidate in enumerate(self._ranked(tokens, logprobs)):
            beam = self._extended(candidate)
            finish = self._finish_of(beam)
            if finish is None and len(live) < width:
                live.append(beam)
                continuations.append(Continuation(candidate.parent, candidate.token))
            elif finish is not None and rank < width:
                ended.append(self._hypothesis(beam, *finish))
        # a stable sort: of equal scores, what was there first stays first
        self.finished = sorted(self.finished + ended, key=lambda one: -one.score)[:width]
        self.live = live
        if not live or self._has_enough():
            self.live, continuations = [], []
        return continuations

    def hypotheses(self) -> list[Hypothesis]:
        """What has finished, at most `beam_width`, the best first."""
        return list(self.finished)

    def _ranked(self, tokens: np.ndarray, logprobs: np.ndarray) -> list[_Candidate]:
        """The candidates that matter, the likeliest first."""
        assert tokens.shape == logprobs.shape and len(tokens) == len(self.live)
        assert logprobs.dtype == np.float32
        before = np.array([beam.cumulative_logprob for beam in self.live], np.float32)
        after = before[:, None] + logprobs
        parents = np.broadcast_to(np.arange(len(self.live))[:, None], tokens.shape)
        order = np.lexsort((tokens.ravel(), parents.ravel(), -after.ravel()))
        # each of at most beam_width beams ends in so many ways: beam_width others are among these
        order = order[: self.params.beam_width * (1 + len(self.end_token_ids))]
        columns = (column.ravel()[order].tolist() for column in (parents, tokens, logprobs, after))
        ranked = map(_Candidate, *columns)
        return [candidate for candidate in ranked if candidate.cumulative_logprob > -np.inf]

    def _extended(self, candidate: _Candidate) -> Beam:
        parent = self.live[candidate.parent]
        return Beam(
            (*parent.tokens, candidate.token),
            (*parent.logprobs, candidate.logprob),
            candidate.cumulative_logprob,
        )

    def _finish_of(self, beam: Beam) -> tuple[str, int | None] | None:
        """(finish reason, stop reason) if the newest token ends the beam, else None."""
        token = beam.tokens[-1]
        if token in self.end_token_ids:
            return "stop", None if token in self.eos_token_ids else token
        return ("length", None) if len(beam.tokens) == self.max_tokens else None

    def _hypothesis(self, beam: Beam, finish_reason: str, stop_reason: int | None) -> Hypothesis:
        score = self._score(beam.cumulative_logprob, len(beam.tokens))
        return Hypothesis(
            **vars(beam), score=score, finish_reason=finish_reason, stop_reason=stop_reason
        )

    def _score(self, cumulative_logprob: float, length: int) -> float:
        divisor = np.float32(length**self.params.length_penalty)
        return float(np.float32(cumulative_logprob) / divisor)

    def _has_enough(self) -> bool:
        """True if the live beams are not worth going on with."""
        params = self.params
        if len(self.finished) < params.beam_width:
            return False
        if params.early_stopping is True:
            return True
        is_patient = params.early_stopping == "never" and params.length_penalty > 0
        length = self.max_tokens if is_patient else self.num_generated
        return self._score(self.live[0].cumulative_logprob, length) <= self.finished[-1].score
