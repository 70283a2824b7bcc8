"""Time that passes when somebody says so."""


class VirtualClock:
    """Seconds since the start of a simulation."""

    def __init__(self, now: float = 0.0):
        self.now = now

    def __call__(self) -> float:
        return self.now

    def wait_until(self, time: float) -> None:
        """Time never goes back."""
        self.now = max(self.now, time)
