"""What lm-eval measures through a server's log-probabilities, as JSON.

Its `local-completions` sends tokens, which it makes with the tokenizer in a folder.
"""
# pyright: reportMissingImports=false
# (an extra, which is not there everywhere)

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager

url, tokenizer = sys.argv[1:]
here = Path(__file__).parent
os.chdir(here)  # the task's file names its data so
model = {
    "model": "demo",
    "base_url": f"{url}/v1/completions",
    "tokenizer": tokenizer,
    "tokenizer_backend": "huggingface",
    "batch_size": 4,
    "max_length": 128,
    "max_retries": 1,
}
found = lm_eval.simple_evaluate(
    "local-completions",
    model_args=model,
    tasks=["story_endings"],
    task_manager=TaskManager(include_path=str(here), include_defaults=False),
    bootstrap_iters=0,
)
samples = sorted(found["samples"]["story_endings"], key=lambda each: each["doc_id"])
print(
    json.dumps(
        {
            "version": version("lm_eval"),
            "accuracy": found["results"]["story_endings"]["acc,none"],
            # (log-likelihood, whether it is the greedy one), of each ending of each story
            "endings": [each["filtered_resps"] for each in samples],
        }
    )
)
