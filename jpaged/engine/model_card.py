"""Describes an engine to those who will not touch it."""

import time

from jpaged.engine.client import ModelCard
from jpaged.engine.llm_engine import LLMEngine
from jpaged.scheduling.policy import Policy
from jpaged.weights.folder import read_json


def model_card(engine: LLMEngine) -> ModelCard:
    """What is known of an engine's model and sizes."""
    config, sizes, model = engine.config, engine.sizes, engine.model
    return ModelCard(
        name=config.model,
        folder=str(engine.folder),
        created=int(time.time()),
        max_model_len=sizes.max_model_len,
        vocab=model.vocab,
        eos_token_ids=engine.eos_token_ids,
        max_logprobs=config.max_logprobs,
        seed=config.seed,
        max_num_seqs=sizes.max_num_seqs,
        max_num_batched_tokens=sizes.max_num_batched_tokens,
        num_pages=sizes.num_pages,
        page_size=sizes.page_size,
        dtype=str(model.dtype),
        architecture=(read_json(engine.folder, "config.json").get("architectures") or [""])[0],
        num_parameters=model.num_parameters,
        policy=name_of(config.policy),
    )


def name_of(policy: str | Policy) -> str:
    return policy if isinstance(policy, str) else type(policy).__name__
