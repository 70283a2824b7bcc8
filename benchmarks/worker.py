"""One engine in its own interpreter, driven over standard input.

    python worker.py ENGINE MODEL      ENGINE: jpaged, vllm, hf, hf-cb

Reads a JSON line {"workload", "seed"} and answers one {"seconds", "tokens": [[ids], ...]}; its
first line says that it is ready.  Imports nothing of the project but `workloads`, so that it
runs where jpaged is not installed.
"""

import contextlib
import json
import os
import sys
import time

from workloads import workload

os.environ.setdefault("HF_HUB_OFFLINE", "1")
MODEL_LENGTH = 1024


def jpaged_engine(model):
    import jpaged

    llm = jpaged.LLM(
        model,
        skip_tokenizer_init=True,
        dtype="bfloat16",
        max_model_len=MODEL_LENGTH,
        kv_cache_memory_bytes=2 << 30,
        warmup="full",
    )
    return _like_vllm(llm, jpaged.SamplingParams)


def vllm_engine(model):
    """vLLM's CPU build at its best: one process, threads bound to all cores."""
    cores = sorted(os.sched_getaffinity(0))
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"{cores[0]}-{cores[-1]}")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm import LLM, SamplingParams

    llm = LLM(model, skip_tokenizer_init=True, dtype="bfloat16", max_model_len=MODEL_LENGTH)
    return _like_vllm(llm, SamplingParams)


def _like_vllm(llm, SamplingParams):
    def run(requests):
        params = [
            SamplingParams(
                temperature=request["temperature"],
                max_tokens=request["out"],
                n=request["n"],
                ignore_eos=True,
                detokenize=False,
            )
            for request in requests
        ]
        prompts = [{"prompt_token_ids": request["prompt"]} for request in requests]
        start = time.perf_counter()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - start
        return seconds, [list(one.token_ids) for out in outputs for one in out.outputs]

    return run


def _load_hf(model):
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.bfloat16, attn_implementation="sdpa"
    ).eval()
    loaded.generation_config.eos_token_id = None
    loaded.generation_config.pad_token_id = 0
    return loaded


def hf_engine(model, batch=64):
    """transformers' `generate` in static batches, padded on the left to the longest."""
    import torch

    loaded = _load_hf(model)

    def generate(chunk):
        longest = max(len(request["prompt"]) for request in chunk)
        ids = torch.zeros(len(chunk), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, request in enumerate(chunk):
            ids[row, longest - len(request["prompt"]) :] = torch.tensor(request["prompt"])
            mask[row, longest - len(request["prompt"]) :] = 1
        most, how = max(request["out"] for request in chunk), {"do_sample": False}
        if chunk[0]["temperature"]:
            how = {"do_sample": True, "top_k": 0, "num_return_sequences": chunk[0]["n"]}
        out = loaded.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=most, min_new_tokens=most, **how
        )
        wanted = [request["out"] for request in chunk for _ in range(request["n"])]
        rows = out[:, longest:].tolist()
        return [row[:count] for row, count in zip(rows, wanted, strict=True)]

    def run(requests):
        start, tokens = time.perf_counter(), []
        with torch.inference_mode():
            for first in range(0, len(requests), batch):
                tokens += generate(requests[first : first + batch])
        return time.perf_counter() - start, tokens

    return run


def hf_continuous_engine(model):
    """transformers' own continuous batching; greedy workloads of one length only."""
    from transformers import GenerationConfig

    loaded = _load_hf(model)
    loaded.set_attn_implementation("paged|sdpa")

    def run(requests):
        config = GenerationConfig(
            max_new_tokens=max(request["out"] for request in requests),
            eos_token_id=-1,
            pad_token_id=0,
            do_sample=False,
        )
        start = time.perf_counter()
        outputs = loaded.generate_batch(
            inputs=[request["prompt"] for request in requests], generation_config=config
        )
        return time.perf_counter() - start, [out.generated_tokens for out in outputs.values()]

    return run


ENGINES = {
    "jpaged": jpaged_engine,
    "vllm": vllm_engine,
    "hf": hf_engine,
    "hf-cb": hf_continuous_engine,
}


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        run = ENGINES[sys.argv[1]](sys.argv[2])
        answers.write(json.dumps({"ready": time.perf_counter() - start}) + "\n")
        for line in sys.stdin:
            task = json.loads(line)
            seconds, tokens = run(workload(task["workload"], task["seed"]))
            answers.write(json.dumps({"seconds": seconds, "tokens": tokens}) + "\n")


if __name__ == "__main__":
    main()
