"""What a step has behind it, counted by hand and in simulations."""

import pytest

from jpaged.scheduling.cost import StepShape
from jpaged.simulator import simulate
from jpaged.simulator.aftermath import WINDOW, Aftermath
from jpaged.simulator.workload import TimedRequest

PROMPT, TOKEN = StepShape(60, 3, num_prompts=1), StepShape(3, 3)


class Noting:
    """A step takes a second, the host nothing; the shapes are kept."""

    host_seconds = 0.0

    def __init__(self):
        self.shapes: list[StepShape] = []

    def seconds(self, shape: StepShape) -> float:
        self.shapes.append(shape)
        return 1.0


def test_a_rest_is_felt_less_with_each_step():
    past = Aftermath()
    assert [past.next_step()[0] for _ in range(3)] == [1, 1 / 2, 1 / 3]
    past.rest()
    assert past.next_step()[0] == 1


def test_prompts_are_felt_from_their_answer_on_and_add_up():
    past = Aftermath()
    past.next_step()
    past.next_step()
    past.answered(PROMPT)
    past.answered(TOKEN)
    assert [past.next_step()[1] for _ in range(2)] == [60, 30]
    past.answered(PROMPT)
    assert past.next_step()[1] == pytest.approx(60 / 3 + 60)


def test_what_is_far_behind_is_forgotten():
    past = Aftermath()
    past.answered(PROMPT)
    felt = [past.next_step()[1] for _ in range(WINDOW + 5)]
    assert felt[WINDOW - 2] == pytest.approx(60 / (WINDOW - 1))
    assert felt[WINDOW - 1 :] == [0] * 6


@pytest.mark.parametrize(
    "is_ahead, after_rest, after_prompts",
    [
        (False, [1, 1 / 2, 1 / 3, 1, 1 / 2], [0, 7, 7 / 2, 7 / 3, 7 / 4 + 5]),
        # a step is submitted before the one before it has answered; one too many at an end
        (
            True,
            [1, 1 / 2, 1 / 3, 1 / 4, 1, 1 / 2, 1 / 3],
            [0, 0, 7, 7 / 2, 7 / 3, 7 / 4, 7 / 5 + 5],
        ),
    ],
)
def test_a_simulated_step_knows_of_the_rest_and_the_prompts_before_it(
    is_ahead, after_rest, after_prompts
):
    costs = Noting()
    workload = [
        TimedRequest("a", 0.0, tuple(range(7)), 3),
        TimedRequest("b", 50.0, tuple(range(10, 15)), 2),
    ]

    simulate("fcfs", workload, costs, async_scheduling=is_ahead)

    assert [each.after_rest for each in costs.shapes] == pytest.approx(after_rest)
    assert [each.after_prompts for each in costs.shapes] == pytest.approx(after_prompts)
