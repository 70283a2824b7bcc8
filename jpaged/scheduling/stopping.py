"""When a sequence has said enough.  Stop *strings* are the engine's: they need text."""

from jpaged.scheduling.request import Sequence


def must_go_on(sequence: Sequence) -> bool:
    """True while the next token is below the sequence's `min_tokens`, where stops are masked."""
    return sequence.num_generated + sequence.num_expected < sequence.request.params.min_tokens


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
    if len(sequence.tokens) >= sequence.full_length:
        return "length", None
    return None
