"""What a meter makes of times that are known."""

from jpaged.calibration.meter import Admitted, Meter
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.request import Request, Sequence


class Scripted:
    """Time, and an executor whose steps end when they were told to."""

    def __init__(self):
        self.now = self.end = 0.0

    def __call__(self) -> float:
        return self.now

    def bucket(self, batch):
        return None

    def submit(self, batch):
        return batch

    def collect(self, handle) -> StepOutput:
        self.now = max(self.now, self.end)
        return StepOutput((), {}, {})


def test_device_and_host_are_told_apart():
    time = Scripted()
    meter = Meter(time, time)

    def submit(at: float):
        time.now = at - 0.25
        meter.begin()
        time.now = at
        meter.bucket(batch := ScheduledBatch(()))
        return meter.submit(batch)

    def collect(handle, end: float) -> None:
        time.end = end
        meter.collect(handle)

    a = submit(at=1.0)  # after a rest
    b = submit(at=2.5)
    collect(a, end=5.0)
    c = submit(at=6.0)
    collect(b, end=9.0)
    d = submit(at=9.25)
    time.now = 10.0
    collect(c, end=9.5)  # was there before it was asked for
    collect(d, end=12.0)  # began at 9.5, but nobody saw that
    e = submit(at=12.5)  # nothing was under way
    collect(e, end=13.0)

    told = [(step.least, step.most, step.host, step.entering) for step in meter.steps]
    assert told == [
        (4.0, 4.0, 0.25, 0.75),
        (4.0, 4.0, 1.5, 0.0),
        (0.0, 1.0, 0.25, 0.0),
        (2.0, 2.75, 0.25, 0.25),
        (0.5, 0.5, 1.0, None),
    ]
    assert [step.is_exact for step in meter.steps] == [True, True, False, False, True]


def test_who_is_admitted_and_what_is_entered_counts_apart():
    time = Scripted()
    meter = Meter(time, time)

    def admit(at: float, until: float, num_tokens: int) -> None:
        time.now = at
        begun = meter.begin()
        time.now = until
        meter.admit(num_tokens, begun)

    def submit(at: float):
        meter.begin()
        time.now = at
        return meter.submit(ScheduledBatch(()))

    admit(at=1.0, until=1.5, num_tokens=7)
    handle = submit(at=2.0)
    time.end = 5.0
    meter.collect(handle)
    meter.end(num_ended=2)
    admit(at=5.25, until=6.25, num_tokens=9)
    handle = submit(at=6.5)
    time.end = 8.0
    meter.collect(handle)
    meter.end(num_ended=0)
    meter.rest()
    admit(at=20.0, until=20.5, num_tokens=1)

    assert meter.admitted == [Admitted(7, 0.5), Admitted(9, 1.0), Admitted(1, 0.5)]
    told = [(step.host, step.entering, step.num_ended) for step in meter.steps]
    assert told == [(0.5, 0.25, 2), (0.25, None, 0)]


def test_a_step_is_told_what_it_has_behind_it():
    time = Scripted()
    meter = Meter(time, time)
    sequence = Sequence(Request("a", tuple(range(6)), SamplingParams()))

    def step(num_tokens: int) -> None:
        meter.collect(meter.submit(ScheduledBatch(((sequence, num_tokens),))))

    for num_tokens in (6, 1, 1):
        step(num_tokens)
    meter.rest()
    step(1)

    shapes = [each.shape for each in meter.steps]
    assert [each.after_rest for each in shapes] == [1, 1 / 2, 1 / 3, 1]
    assert [each.after_prompts for each in shapes] == [0, 6, 3, 2]
