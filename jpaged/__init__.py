"""Paged LLM serving in JAX.

    import jpaged
    print(jpaged.generate("demo", "Once upon a time")[0].outputs[0].text)

Names are imported when first used: `import jpaged` alone brings in neither JAX nor numpy.
"""

import importlib

__version__ = "0.1.0"

_HOME = {
    "generate": "jpaged.engine.generate",
    "LLM": "jpaged.engine.llm",
    "LLMEngine": "jpaged.engine.llm_engine",
    "AsyncLLMEngine": "jpaged.engine.async_engine",
    "EngineConfig": "jpaged.config",
    "SamplingParams": "jpaged.sampling_params",
    "BeamSearchParams": "jpaged.beam_search_params",
    "RequestOutputKind": "jpaged.sampling_params",
    "RequestOutput": "jpaged.engine.outputs",
    "CompletionOutput": "jpaged.engine.outputs",
    "BeamSearchOutput": "jpaged.engine.outputs",
    "BeamSearchSequence": "jpaged.engine.outputs",
    "Logprob": "jpaged.engine.outputs",
    "RequestRejected": "jpaged.errors",
    "RequestFailed": "jpaged.errors",
    "EngineDied": "jpaged.errors",
    "ConfigError": "jpaged.errors",
    "UnsupportedModel": "jpaged.errors",
    "CompiledAfterWarmup": "jpaged.errors",
    "PolicyWarning": "jpaged.errors",
    "PolicyWrote": "jpaged.errors",
    "SnapshotMismatch": "jpaged.errors",
    "Snapshot": "jpaged.engine.snapshot",
    "Replay": "jpaged.engine.replaying",
    "ReplayDiverged": "jpaged.errors",
    "CachedPage": "jpaged.scheduling.prefix",
    "StepRecord": "jpaged.scheduling.events",
    "EventLog": "jpaged.scheduling.event_log",
    "EngineStats": "jpaged.engine.stats",
    "PageReport": "jpaged.scheduling.report",
    "CheckpointMismatch": "converters",
    "Policy": "jpaged.scheduling.policy",
    "View": "jpaged.scheduling.view",
    "Sequence": "jpaged.scheduling.request",
    "Terms": "jpaged.scheduling.terms",
    "RequestRecord": "jpaged.scheduling.events",
    "DEMO_MODEL": "jpaged.assets",
}

__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'jpaged' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
