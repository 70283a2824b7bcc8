"""Steps that all cost the same, or so much a token: enough where only the order matters."""

import math
from dataclasses import dataclass

from jpaged.errors import ConfigError
from jpaged.scheduling.cost import StepShape


@dataclass(frozen=True)
class Constant:
    """A step takes `step` seconds and `token` more for each of its tokens, padding not counted."""

    step: float = 0.01
    token: float = 0.0
    host_seconds: float = 0.0

    def __post_init__(self) -> None:
        wrong = [
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if not isinstance(value, int | float) or not (value >= 0 and math.isfinite(value))
        ]
        if wrong or not self.step + self.token > 0:
            raise ConfigError(
                f"costs are seconds, none below 0 and not all 0: {', '.join(wrong) or 'all are 0'}"
            )

    def seconds(self, shape: StepShape) -> float:
        return self.step + self.token * shape.num_tokens
