"""The public names for editors and type checkers, which cannot see lazy imports."""

from converters import CheckpointMismatch as CheckpointMismatch
from jpaged.assets import DEMO_MODEL as DEMO_MODEL
from jpaged.beam_search_params import BeamSearchParams as BeamSearchParams
from jpaged.config import EngineConfig as EngineConfig
from jpaged.engine.async_engine import AsyncLLMEngine as AsyncLLMEngine
from jpaged.engine.generate import generate as generate
from jpaged.engine.llm import LLM as LLM
from jpaged.engine.llm_engine import LLMEngine as LLMEngine
from jpaged.engine.outputs import BeamSearchOutput as BeamSearchOutput
from jpaged.engine.outputs import BeamSearchSequence as BeamSearchSequence
from jpaged.engine.outputs import CompletionOutput as CompletionOutput
from jpaged.engine.outputs import Logprob as Logprob
from jpaged.engine.outputs import RequestOutput as RequestOutput
from jpaged.errors import CompiledAfterWarmup as CompiledAfterWarmup
from jpaged.errors import ConfigError as ConfigError
from jpaged.errors import EngineDied as EngineDied
from jpaged.errors import PolicyWarning as PolicyWarning
from jpaged.errors import PolicyWrote as PolicyWrote
from jpaged.errors import ReplayDiverged as ReplayDiverged
from jpaged.errors import RequestFailed as RequestFailed
from jpaged.errors import RequestRejected as RequestRejected
from jpaged.errors import UnsupportedModel as UnsupportedModel
from jpaged.sampling_params import RequestOutputKind as RequestOutputKind
from jpaged.sampling_params import SamplingParams as SamplingParams
from jpaged.scheduling.policy import Policy as Policy
from jpaged.scheduling.request import Sequence as Sequence
from jpaged.scheduling.terms import Terms as Terms
from jpaged.scheduling.view import View as View

__version__: str
__all__: list[str]
from jpaged.engine.replaying import Replay as Replay
from jpaged.engine.snapshot import Snapshot as Snapshot
from jpaged.engine.stats import EngineStats as EngineStats
from jpaged.errors import SnapshotMismatch as SnapshotMismatch
from jpaged.scheduling.event_log import EventLog as EventLog
from jpaged.scheduling.events import RequestRecord as RequestRecord
from jpaged.scheduling.events import StepRecord as StepRecord
from jpaged.scheduling.prefix import CachedPage as CachedPage
from jpaged.scheduling.report import PageReport as PageReport
