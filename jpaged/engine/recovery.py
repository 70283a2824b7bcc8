"""After a step raised: whose error it was, and whether the others can go on.

in one request's output       that request ends                      live_requests.py
in one request's options      that request ends, the others are scheduled again
in a step as a whole          its requests end
and the cache is lost         the engine is dead: each step takes the cache and gives it back
in the scheduler              the engine is dead: what it thinks of its pages may be wrong
"""

from jpaged.engine.llm_engine import LLMEngine
from jpaged.errors import EngineDied, RequestFailed


def recover(engine: LLMEngine, error: Exception) -> dict[str, str]:
    """Ends the requests that an exception out of `engine.step` belongs to.

    Returns why, by their ids; from here on the engine serves the others.  Raises `EngineDied` if
    it cannot.
    """
    if isinstance(error, RequestFailed):
        return error.reasons
    reason = f"{type(error).__name__}: {error}"
    unsent, unanswered = engine.loop.unsent, engine.loop.unanswered
    batch = unsent or unanswered
    if batch is None:
        raise EngineDied(f"scheduling failed: {reason}") from error
    if not engine.executor.is_usable:
        raise EngineDied(f"a step failed and took the cache along: {reason}") from error
    everyone = [sequence for sequence, _ in batch.items]
    guilty = engine.executor.culprits(unsent) if unsent else []
    ids = list(dict.fromkeys(sequence.request.id for sequence in guilty or everyone))
    engine.abort_request(ids)
    return dict.fromkeys(ids, f"a step failed: {reason}")
