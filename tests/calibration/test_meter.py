"""What a meter makes of times that are known."""

from jpaged.calibration.meter import Meter
from jpaged.scheduling.batch import ScheduledBatch, StepOutput


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
        time.now = at
        meter.begin()
        meter.bucket(batch := ScheduledBatch(()))
        return meter.submit(batch)

    def collect(handle, end: float) -> None:
        time.end = end
        meter.collect(handle)

    a = submit(at=1.0)  # after a rest: the host began at 1.0, too
    b = submit(at=2.5)
    collect(a, end=5.0)
    c = submit(at=6.0)
    collect(b, end=9.0)
    d = submit(at=10.0)
    collect(c, end=9.5)  # was there before it was asked for
    collect(d, end=12.0)  # began at 9.5, but nobody saw that

    told = [(step.seconds, step.host, step.is_exact) for step in meter.steps]
    assert told == [
        (4.0, 0.0, True),
        (4.0, 1.5, True),
        (1.0, 1.0, False),
        (2.0, 1.0, False),
    ]
