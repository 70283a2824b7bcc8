"""Which kernels serve a step's attention on a GPU, and why not the others.

There are two jobs: sequences that run one token, which wait for memory, and prompts, which
multiply.  Each has a kernel for the newest GPUs, and one that serves wherever Triton does.
"""

from typing import NamedTuple

from jax import Array

from pallas_kernels import gpu
from pallas_kernels.paged_attention import mosaic_decode, mosaic_prefill, triton_ragged

SINGLE, PROMPTS = "single tokens", "prompts"
KERNELS = {
    SINGLE: {"mosaic": mosaic_decode.why_not, "triton": triton_ragged.why_not},
    PROMPTS: {"mosaic": mosaic_prefill.why_not, "triton": triton_ragged.why_not},
}


class Choice(NamedTuple):
    """Who serves a job, and why those did not who would have been asked first."""

    name: str
    passed_over: tuple[str, ...] = ()

    def __str__(self) -> str:
        because = f" ({'; '.join(self.passed_over)})" if self.passed_over else ""
        return f"{self.name}{because}"


def choose(job: str, q: Array, k_pages: Array, wanted: str | None = None) -> Choice:
    """Who serves `job` on the GPU at hand.

    Raises `NotImplementedError` with the reason, if the one that is wanted cannot.
    """
    reasons = []
    for name, why_not in KERNELS[job].items():
        if wanted in (None, name):
            reason = why_not(q, k_pages, gpu.compute_capability())
            if reason is None:
                return Choice(name, tuple(reasons))
            reasons.append(reason)
    if wanted is not None:
        raise NotImplementedError(f"{job}: {reasons[0]}")
    return Choice("reference", tuple(reasons))
