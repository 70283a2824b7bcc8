"""`jpaged bench serve`: loads a server, and prints what `vllm bench serve` prints."""

import argparse
import asyncio
import json
import math
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import uvloop

from jpaged.bench.calls import Answer, Call
from jpaged.bench.connection import Pool
from jpaged.bench.datasets import (
    Lengths,
    as_texts,
    custom_calls,
    is_workload,
    random_calls,
    sharegpt_calls,
    timed,
    workload_calls,
)
from jpaged.bench.figures import METRICS, Figures, as_block
from jpaged.bench.load import load
from jpaged.bench.server import Server
from jpaged.cli.bench_flags import SAMPLING
from jpaged.cli.client import own_key
from jpaged.engine.progress import progress
from jpaged.errors import ConfigError
from jpaged.server.registry import url_of

NUM_PROMPTS = 1000
GOALS = ("ttft", "tpot", "e2el")
SHOWN_ERRORS = 3


def run(args: argparse.Namespace) -> int:
    """1 if a request failed: a benchmark of errors is none."""
    metrics, percentiles = metrics_of(args), percentiles_of(args)
    goals = goals_of(args.goodput or [])
    seconds, answers = uvloop.run(measure(args))
    figures = Figures(seconds, answers, goals)
    rate = None if math.isinf(args.request_rate) else args.request_rate
    print("\n".join(as_block(figures, metrics, percentiles, args.max_concurrency, rate)))
    if args.save_result or args.save_detailed:
        path = save(args, figures, metrics, percentiles)
        print(f"written to {path}")
    errors = dict.fromkeys(answer.error for answer in answers if answer.error)
    for error in list(errors)[:SHOWN_ERRORS]:
        print(f"failed: {error}", file=sys.stderr)
    return 1 if errors else 0


async def measure(args: argparse.Namespace) -> tuple[float, list[Answer]]:
    url = args.base_url or url_of(args.host, args.port)
    async with Pool(url, headers_of(args)) as pool:
        return await measure_with(pool, args)


async def measure_with(pool: Pool, args: argparse.Namespace) -> tuple[float, list[Answer]]:
    server = Server(pool, endpoint_of(args), args.model or "", options_of(args))
    if not args.model:
        server.model = args.model = await server.first_model()
    calls = await calls_of(args, server)
    if server.is_chat:
        calls = await as_texts(server, calls)
    if any(call.then for call in calls):
        server.options["return_token_ids"] = True  # the next turn goes on with them
    await asyncio.gather(*(warm(server, calls[0]) for _ in range(args.num_warmups)))
    total = sum(call.num_turns for call in calls)
    with progress(total, "Asking", "request", shown=not args.disable_tqdm) as bar:
        return await load(server, calls, args.max_concurrency, lambda answer: bar.update())


async def warm(server: Server, call: Call) -> None:
    prompt = call.prompt if isinstance(call.prompt, str) else list(call.prompt)
    answer = await server.generate(prompt, call.num_output, 0.0)
    if answer.error:
        raise ConfigError(f"a request before the measurement failed: {answer.error}")


async def calls_of(args: argparse.Namespace, server: Server) -> list[Call]:
    """Raises `ConfigError`."""
    name, path = args.dataset_name, args.dataset_path
    count = NUM_PROMPTS if args.num_prompts is None else args.num_prompts
    if name == "timed_trace":
        name = _needed(path, name)
    if is_workload(name):
        if not math.isinf(args.request_rate):
            raise ConfigError(f"{name} has its own times; leave out --request-rate")
        return workload_calls(await server.vocabulary(), name, args.num_prompts, args.seed)
    if name == "random":
        lengths = Lengths(
            args.random_input_len,
            args.random_output_len,
            args.random_prefix_len,
            args.random_range_ratio,
        )
        calls = random_calls(await server.vocabulary(), count, lengths, args.seed)
    elif name == "sharegpt":
        path = _needed(path, name)
        calls = await sharegpt_calls(server, path, count, args.sharegpt_output_len, args.seed)
    elif name == "custom":
        calls = custom_calls(_needed(path, name), count, args.custom_output_len, args.seed)
    else:
        raise ConfigError(
            f"no dataset {name!r}; there are random, sharegpt, custom, timed_trace, and workloads "
            "such as poisson:rate=4,num_requests=100"
        )
    return timed(calls, args.request_rate, args.burstiness, args.seed)


def _needed(path: str | None, name: str) -> str:
    if path is None or not Path(path).is_file():
        raise ConfigError(f"--dataset-name {name} needs a file in --dataset-path, not {path}")
    return path


def endpoint_of(args: argparse.Namespace) -> str:
    chat = "/v1/chat/completions" if args.backend == "openai-chat" else "/v1/completions"
    return args.endpoint or chat


def headers_of(args: argparse.Namespace) -> dict[str, str]:
    key = own_key() or os.environ.get("OPENAI_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of each request.  A workload says how long outputs are, whatever the model says."""
    given = {name: getattr(args, name) for name in SAMPLING if getattr(args, name) is not None}
    has_lengths = args.ignore_eos or is_workload(args.dataset_name)
    has_lengths = has_lengths or args.dataset_name in ("random", "timed_trace")
    return {
        "temperature": 0.0,
        **given,
        **({"ignore_eos": True} if has_lengths else {}),
        **(args.extra_body or {}),
    }


def metrics_of(args: argparse.Namespace) -> list[str]:
    names = args.percentile_metrics.split(",")
    if unknown := [name for name in names if name not in METRICS]:
        raise ConfigError(f"no metric {', '.join(unknown)}; there are {', '.join(METRICS)}")
    return names


def percentiles_of(args: argparse.Namespace) -> list[float]:
    try:
        found = [float(each) for each in args.metric_percentiles.split(",")]
    except ValueError as error:
        raise ConfigError(f"--metric-percentiles {args.metric_percentiles}: {error}") from error
    if any(not 0 <= each <= 100 for each in found):
        raise ConfigError(f"--metric-percentiles {args.metric_percentiles}: they are from 0 to 100")
    return found


def goals_of(texts: list[str]) -> dict[str, float]:
    """Seconds, from `ttft:200` in milliseconds."""
    goals = {}
    for text in texts:
        name, _, most = text.partition(":")
        try:
            goals[name] = float(most) / 1000
        except ValueError as error:
            raise ConfigError(f"--goodput {text}: write KEY:MILLISECONDS") from error
        if name not in GOALS:
            raise ConfigError(f"--goodput {text}: there are {', '.join(GOALS)}")
    return goals


def save(
    args: argparse.Namespace, figures: Figures, metrics: list[str], percentiles: list[float]
) -> Path:
    """All figures, and with --save-detailed those of each request, by vLLM's names."""
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    label, model = args.label or args.backend, args.model.rstrip("/").split("/")[-1]
    seats = "" if args.max_concurrency is None else f"-concurrency{args.max_concurrency}"
    name = args.result_filename or f"{label}-{args.request_rate}qps{seats}-{model}-{now}.json"
    found: dict[str, Any] = {
        "date": now,
        "backend": args.backend,
        "label": args.label,
        "model_id": args.model,
        "dataset": args.dataset_name,
        "seed": args.seed,
        "num_prompts": len(figures.answers),
        "request_rate": "inf" if math.isinf(args.request_rate) else args.request_rate,
        "burstiness": args.burstiness,
        "max_concurrency": args.max_concurrency,
        **dict(each.split("=", 1) for each in args.metadata),
        **figures.totals(),
    }
    for metric in metrics:
        found |= figures.times(metric, percentiles)
    if args.save_detailed:
        found |= {
            "input_lens": [answer.num_prompt for answer in figures.answers],
            "output_lens": [answer.num_output for answer in figures.answers],
            "ttfts": [answer.ttft if answer.chunks else 0.0 for answer in figures.answers],
            "itls": [answer.gaps for answer in figures.answers],
            "start_times": [answer.begin for answer in figures.answers],
            "errors": [answer.error for answer in figures.answers],
        }
    path = Path(args.result_dir or ".") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path
