"""A core for the host, where the device is a CPU and the model small.

XLA takes a thread for each core.  The host, which packs the next step meanwhile, then has to share
one, and the threads of a small model wait for the one that was interrupted.  With two cores and the
bundled model (3.8M parameters), a step with one thread in place of two:

    sequences     1             8             32            96
    ms            0.31 → 0.25   0.53 → 0.37   1.24 → 0.94   3.31 → 3.22

and with 8 it takes the same each second, within 2 % instead of 10.  A model of 5M is faster with
two threads where 48 sequences run.  With one, 512 tokens of prompts take a third longer, 2048 two
thirds.
"""

import logging
import os

import jax

SMALL = 4_000_000  # parameters
NUM_THREADS = "NPROC"  # what XLA reads when it makes its threads, once in a process

logger = logging.getLogger("jpaged")
_is_left = False  # by this process


def leave_a_core(num_parameters: int) -> None:
    """Lets XLA compute with a thread less than there are cores, if the model is small.

    It does nothing where NPROC says how many there should be, or where this process has used a
    device before: threads are a process's, not a model's.
    """
    global _is_left
    cores = num_cores()
    if NUM_THREADS in os.environ or cores < 2:
        return
    if num_parameters > SMALL:
        if _is_left and jax.default_backend() == "cpu":
            logger.warning(
                "a small model was loaded first, and left a core to the host; this one has "
                f"{cores - 1} of {cores} as well: load it in a process of its own, or set "
                f"{NUM_THREADS}={cores} before either"
            )
        return
    os.environ[NUM_THREADS] = str(cores - 1)
    try:
        jax.local_devices()
    finally:
        del os.environ[NUM_THREADS]  # processes that this one starts may have larger models
    _is_left = True


def num_cores() -> int:
    """Those that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
