"""Scheduling policies: one idea a file.  A new one needs no change anywhere else."""

import difflib

from jpaged.errors import ConfigError
from jpaged.policies.andes import Andes
from jpaged.policies.bucket_aware import BucketAware
from jpaged.policies.deadlines import EarliestDeadline, LeastSlack
from jpaged.policies.early_rejection import EarlyRejection
from jpaged.policies.fair_share import FairShare
from jpaged.policies.fastserve import FastServe
from jpaged.policies.headroom import Headroom
from jpaged.policies.least_computed import LeastComputed
from jpaged.policies.longest_prefix import LongestPrefixMatch
from jpaged.policies.orca import Orca
from jpaged.policies.prediction import Learned, Noisy, Oracle
from jpaged.policies.prefill_first import PrefillFirst
from jpaged.policies.priority import Priority
from jpaged.policies.program_aware import ProgramAware
from jpaged.policies.ranked import Ranked
from jpaged.policies.sarathi import Sarathi
from jpaged.policies.shortest import ShortestFirst
from jpaged.policies.shortest_job import ShortestJob, ShortestRemaining
from jpaged.policies.static import Static
from jpaged.scheduling.policy import Fcfs, Policy
from jpaged.scheduling.view import View

NAMES: dict[str, type] = {
    "fcfs": Fcfs,
    "priority": Priority,
    "shortest": ShortestFirst,
    "sarathi": Sarathi,
    "prefill_first": PrefillFirst,
    "headroom": Headroom,
    "orca": Orca,
    "fair_share": FairShare,
    "earliest_deadline": EarliestDeadline,
    "least_slack": LeastSlack,
    "andes": Andes,
    "program_aware": ProgramAware,
    "early_rejection": EarlyRejection,
    "bucket_aware": BucketAware,
    "static": Static,
    "sjf": ShortestJob,
    "srpt": ShortestRemaining,
    "fastserve": FastServe,
    "lpm": LongestPrefixMatch,
    "least_computed": LeastComputed,
}


def resolve(policy: str | Policy) -> Policy:
    """A policy object from its name on the command line, or the object itself."""
    if not isinstance(policy, str):
        if isinstance(policy, type):
            raise ConfigError(f"policy {policy.__name__} is a class; pass {policy.__name__}()")
        missing = [name for name in ("propose", "victim") if not hasattr(policy, name)]
        if getattr(type(policy), "propose", None) is Policy.propose:
            missing.append("propose")
        if missing:
            raise ConfigError(f"policy {policy!r} has no method {' and no '.join(missing)}")
        return policy
    if policy not in NAMES:
        near = difflib.get_close_matches(policy, NAMES, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ConfigError(f"no policy {policy!r}{hint}; there are {', '.join(NAMES)}")
    return NAMES[policy]()


__all__ = [
    "NAMES",
    "Andes",
    "BucketAware",
    "EarliestDeadline",
    "EarlyRejection",
    "FairShare",
    "FastServe",
    "Fcfs",
    "Headroom",
    "Learned",
    "LeastComputed",
    "LeastSlack",
    "LongestPrefixMatch",
    "Noisy",
    "Oracle",
    "Orca",
    "Policy",
    "PrefillFirst",
    "Priority",
    "ProgramAware",
    "Ranked",
    "Sarathi",
    "ShortestFirst",
    "ShortestJob",
    "ShortestRemaining",
    "Static",
    "View",
    "resolve",
]
