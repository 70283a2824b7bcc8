"""What an engine that only pretends says its steps cost: see `pretend.py`.  No JAX here."""

from jpaged.config import EngineConfig
from jpaged.scheduling.cost import CostModel
from jpaged.simulator.constant import Constant
from jpaged.simulator.specs import cost_model_of


def costs_of(text: str) -> CostModel:
    """A cost model by its name; "constant:0.05" is short for "constant:step=0.05".  Raises
    `ConfigError`."""
    name, _, seconds = text.partition(":")
    if name == "constant" and _is_number(seconds):
        return Constant(float(seconds))
    return cost_model_of(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def pretended_costs(config: EngineConfig) -> CostModel | None:
    """None if nothing is pretended.  Raises `ConfigError` for a text that names nothing."""
    return costs_of(config.pretend) if isinstance(config.pretend, str) else config.pretend


def pretended_pages(config: EngineConfig, wanted_pages: int) -> int | None:
    """As many as the pretended device has room for, but not more than would ever be used; None if
    nothing is pretended, or the user gave the cache a size."""
    costs = pretended_costs(config)
    if costs is None or config.kv_cache_memory_bytes is not None:
        return None
    fitting = getattr(costs, "num_pages", None)
    return wanted_pages if fitting is None else min(wanted_pages, fitting(config.page_size))
