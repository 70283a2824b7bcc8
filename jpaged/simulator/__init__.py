"""Serving in virtual time, for experiments with scheduling: no model, no device, no waiting."""

from jpaged.simulator.constant import Constant
from jpaged.simulator.result import Result
from jpaged.simulator.roofline import GPUS, Gpu, Roofline
from jpaged.simulator.routing import Move, Router
from jpaged.simulator.simulate import simulate
from jpaged.simulator.table import FromTable

__all__ = [
    "GPUS",
    "Constant",
    "FromTable",
    "Gpu",
    "Move",
    "Result",
    "Roofline",
    "Router",
    "simulate",
]
