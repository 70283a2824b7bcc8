"""Who says a token in this step, and who still has a prompt to compute: for policies that let no
decode wait, and differ in whose prompt is next."""

from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View


def apart(view: View) -> tuple[list[Sequence], list[Sequence]]:
    """Running sequences with a single pending token, in order of admission; and all others that
    could run: those who wait only where there is a free seat."""
    decodes, prompts = [], []
    for sequence in view.running:
        (decodes if sequence.num_pending == 1 else prompts).append(sequence)
    if view.free_seats:
        prompts += view.waiting
    return decodes, prompts
