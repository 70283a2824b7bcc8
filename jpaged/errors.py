"""The errors a user can meet.  Each message carries the numbers and the way out."""


class RequestRejected(ValueError):
    """A request that cannot be served; it was refused at the door and nothing else was touched."""


class ReplayDiverged(RuntimeError):
    """A recorded run does not come out as it did."""


class ConfigError(ValueError):
    """An engine option that is unknown, out of range or at odds with another."""


class UnsupportedModel(ValueError):
    """A model, or a detail of its configuration, which jpaged does not understand."""


class CompiledAfterWarmup(RuntimeError):
    """A step was compiled while serving although `jit_monitor="error"` forbids it."""


class SnapshotMismatch(ValueError):
    """A snapshot that this engine cannot take or go on from: another model, sizes or version."""


class PolicyWarning(UserWarning):
    """A scheduling policy raised; the engine replaced it with first come, first served.  Or it
    proposed what is no wish."""


class PolicyWrote(RuntimeError):
    """A scheduling policy has written to what it was given to read, and nothing can be served."""


class RequestFailed(RuntimeError):
    """A request that was let in and could not be finished; others go on.

    reasons: of each that failed, by its id.
    """

    def __init__(self, message: str, reasons: dict[str, str] | None = None):
        super().__init__(message)
        self.reasons = reasons or {}


class EngineDied(RuntimeError):
    """An engine that serves no more: its process ended, or a step lost the cache."""
