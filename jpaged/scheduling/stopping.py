"""When a sequence has said enough.  Stop *strings* are the engine's: they need text."""

from jpaged.scheduling.request import Sequence


def stop_ids(sequence: Sequence) -> frozenset[int]:
    """Every token id at which this sequence would stop."""
    params = sequence.request.params
    eos = frozenset() if params.ignore_eos else sequence.request.eos_token_ids
    return eos | frozenset(params.stop_token_ids or ())


def must_go_on(sequence: Sequence) -> bool:
    """True while the sequence is below its `min_tokens`, where stop tokens are masked."""
    return sequence.num_generated < sequence.request.params.min_tokens


def finish_of(sequence: Sequence) -> tuple[str, int | None] | None:
    """(finish reason, stop reason) if the newest token ends the sequence, else None.

    As in vLLM, the stop reason is None for an end-of-sequence token and the id for a
    `stop_token_ids` one.
    """
    request, token = sequence.request, sequence.tokens[-1]
    if sequence.num_generated >= request.params.min_tokens:
        if token in request.eos_token_ids and not request.params.ignore_eos:
            return "stop", None
        if token in (request.params.stop_token_ids or ()):
            return "stop", token
    if sequence.num_generated >= request.max_tokens:
        return "length", None
    return None
