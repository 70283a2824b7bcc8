"""transformers on the same model and the same prompts: `generate` in one static batch, and its own
continuous batching."""

import time
from functools import cache, partial

import torch
from journal import Case, Found
from llama import DEVIATION, LLAMA, TOY, TOY_WORKLOADS, WORKLOADS, name_of, prompts

TIMES_OURS = 4.0  # the target, beside continuous batching


def cases(is_dry: bool) -> list[Case]:
    workloads = TOY_WORKLOADS if is_dry else WORKLOADS
    found = []
    for workload in workloads:
        name, times = name_of(workload), TIMES_OURS if workload[0] >= 32 else None
        run = partial(continuous, workload, is_dry)
        found.append(Case(f"continuous batching: {name}", run, beside=times))
        found.append(Case(f"generate: {name}", partial(static, workload, is_dry)))
    return found


def is_alive() -> None:
    """Raises if the device has stopped to answer."""
    torch.ones(8, device=device()).sum().item()


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@cache
def model(is_dry: bool):
    from transformers import AutoModelForCausalLM, LlamaConfig

    values = (TOY if is_dry else LLAMA) | {"initializer_range": DEVIATION}
    config = LlamaConfig(**values, attn_implementation="sdpa")
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device()):
        built = AutoModelForCausalLM.from_config(config)
    built.generation_config.eos_token_id = None
    built.generation_config.pad_token_id = 0
    return built.eval()


def wait() -> None:
    if device() == "cuda":
        torch.cuda.synchronize()


def static(workload: tuple[int, int, int], is_dry: bool) -> Found:
    """All rows have the same lengths, so that nothing is padded: a static batch's best case."""
    count, inside, out = workload
    ids = torch.tensor(prompts(count, inside, is_dry), device=device())

    def run(out: int) -> float:
        wait()
        start = time.perf_counter()
        with torch.inference_mode():
            said = model(is_dry).generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=out,
                min_new_tokens=out,
                do_sample=False,
            )
        wait()
        assert said.shape == (count, inside + out), f"generated {tuple(said.shape)}"
        return time.perf_counter() - start

    return _timed(run, workload, "")


def continuous(workload: tuple[int, int, int], is_dry: bool) -> Found:
    from transformers import GenerationConfig

    count, inside, out = workload
    loaded, sizes = model(is_dry), {}
    if is_dry:  # by itself it would take all of the host's memory
        from transformers.generation.configuration_utils import ContinuousBatchingConfig

        small = ContinuousBatchingConfig(num_blocks=8, max_batch_tokens=64)
        sizes = {"continuous_batching_config": small}

    def run(out: int) -> float:
        config = GenerationConfig(
            max_new_tokens=out, eos_token_id=-1, pad_token_id=0, do_sample=False
        )
        start = time.perf_counter()
        said = loaded.generate_batch(
            inputs=prompts(count, inside, is_dry), generation_config=config, **sizes
        )
        seconds = time.perf_counter() - start
        counts = [len(each.generated_tokens) for each in said.values()]
        assert counts == [out] * count, f"{counts} tokens, not {out} of each"
        return seconds

    return _timed(run, workload, f"attention: {loaded.config._attn_implementation}")


def _timed(run, workload: tuple[int, int, int], note: str) -> Found:
    count, _, out = workload
    run(2)
    seconds = run(out)
    more = {"tokens_per_s": round(count * out / seconds, 1)}
    return Found(round(seconds, 3), "s", key=name_of(workload), note=note, more=more)
