"""Requests and when they arrive.  A workload is data: whoever serves it decides what it costs."""

from jpaged.simulator.workload.arrivals import generate, poisson_arrivals
from jpaged.simulator.workload.request import EOS, VOCAB, TimedRequest, Workload

__all__ = ["EOS", "VOCAB", "TimedRequest", "Workload", "generate", "poisson_arrivals"]
