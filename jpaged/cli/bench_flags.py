"""Flags of `jpaged bench serve`, which are those of `vllm bench serve`."""

import argparse
import json

SAMPLING = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "frequency_penalty": float,
    "presence_penalty": float,
    "repetition_penalty": float,
}


def bench(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    serve = kinds.add_parser("serve", help="a running server, over HTTP")
    _server(serve)
    _dataset(serve.add_argument_group("what is sent"))
    _load(serve.add_argument_group("when it is sent"))
    _result(serve.add_argument_group("what comes of it"))
    sampling = serve.add_argument_group("sampling options (temperature 0 unless given)")
    for name, kind in SAMPLING.items():
        sampling.add_argument(f"--{name.replace('_', '-')}", type=kind)
    sampling.add_argument("--ignore-eos", action="store_true", help="as for random and workloads")
    sampling.add_argument("--extra-body", type=json.loads, help="more fields, as JSON")


def _server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend", choices=("openai", "openai-chat", "vllm"), default="openai", help="protocol"
    )
    parser.add_argument("--base-url", help="in place of --host and --port")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--endpoint", help="by default the backend's")
    parser.add_argument("--model", help="by default the first that the server has")


def _dataset(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dataset-name",
        default="random",
        metavar="NAME",
        help="random, sharegpt, custom, timed_trace; or a workload of the simulator, with its own "
        "times: poisson:rate=4,num_requests=100, sessions:…, trace.jsonl",
    )
    group.add_argument("--dataset-path", metavar="FILE")
    group.add_argument("--num-prompts", type=int, help="default 1000, or all of a workload")
    group.add_argument("--seed", type=int, default=0)
    group.add_argument("--random-input-len", type=int, default=1024)
    group.add_argument("--random-output-len", type=int, default=128)
    group.add_argument("--random-prefix-len", type=int, default=0, help="that all prompts share")
    group.add_argument(
        "--random-range-ratio", type=float, default=0.0, help="r: lengths from 1-r to 1+r of these"
    )
    group.add_argument("--sharegpt-output-len", type=int)
    group.add_argument("--custom-output-len", type=int)


def _load(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--request-rate", type=float, default=float("inf"), help="a second; default all at once"
    )
    group.add_argument(
        "--burstiness", type=float, default=1.0, help="1 is Poisson's, less comes in bursts"
    )
    group.add_argument("--max-concurrency", type=int, help="requests under way at a time")
    group.add_argument("--num-warmups", type=int, default=0, help="requests before it begins")


def _result(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--goodput", nargs="+", metavar="KEY:MS", help="ttft:200 tpot:50 e2el:5000")
    group.add_argument("--percentile-metrics", default="ttft,tpot,itl,e2el")
    group.add_argument("--metric-percentiles", default="99", help="with commas")
    group.add_argument("--save-result", action="store_true", help="as JSON")
    group.add_argument("--save-detailed", action="store_true", help="that of each request too")
    group.add_argument("--result-dir", metavar="FOLDER")
    group.add_argument("--result-filename", metavar="FILE")
    group.add_argument("--metadata", nargs="*", default=[], metavar="KEY=VALUE")
    group.add_argument("--label", help="begins the file's name")
    group.add_argument("--disable-tqdm", action="store_true", help="no progress bar")
