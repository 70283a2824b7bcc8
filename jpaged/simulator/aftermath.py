"""What came before a step, and still makes it slower: its caches hold something else by then.

After a rest, when other programs had the processor, and after a step of many tokens, which went
through memory that single tokens do not need, the steps that follow take longer; so does the host,
and all the less the more steps have passed since.  Measured is about 1 / k at the k-th step:

    after_rest    = 1 / k                               the first step after a rest is at k = 1
    after_prompts = the sum of tokens / k               of steps with prompts, k steps after the
                                                        host had taken the answer
"""

from collections import deque

from jpaged.scheduling.cost import StepShape

WINDOW = 60  # steps: what is farther back is forgotten


class Aftermath:
    """Sees rests, steps and answers in their order, and says what the next step has behind it."""

    def __init__(self) -> None:
        self._num_steps = 0
        self._rested = 0  # the number of steps when there was nothing to do; at first there is not
        self._prompts: deque[tuple[int, int]] = deque()  # the same at an answer, and its tokens

    def rest(self) -> None:
        """There is nothing to do, until somebody arrives."""
        self._rested = self._num_steps

    def answered(self, shape: StepShape) -> None:
        """The host has taken what such a step answered."""
        if shape.num_prompts:
            self._prompts.append((self._num_steps, shape.num_tokens))

    def next_step(self) -> tuple[float, float]:
        """`after_rest` and `after_prompts` of the step that is submitted now."""
        self._num_steps += 1
        now, prompts = self._num_steps, self._prompts
        while prompts and now - prompts[0][0] >= WINDOW:
            prompts.popleft()
        after_prompts = sum([tokens / (now - at) for at, tokens in prompts])
        return 1 / (now - self._rested), after_prompts
