"""`jpaged ps`: the servers that run here, and how much they have to do."""

import argparse
import re
import time
from collections.abc import Iterable

from jpaged.cli.client import Client, ServerError
from jpaged.cli.tables import ago, table
from jpaged.server.registry import Entry, running

SECONDS = 2.0  # a server that does not answer within them says nothing in the table
SAMPLE = re.compile(r"(?P<name>[\w:]+)\{(?P<labels>.*)\} (?P<value>\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
GAUGES = {
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "cache": "vllm:kv_cache_usage_perc",
}
HEAD = ("MODEL", "URL", "PID", "STATE", "RUNNING", "WAITING", "KV CACHE", "UP")


def run(args: argparse.Namespace) -> int:
    rows = [row for entry in running() for row in rows_of(entry)]
    if not rows:
        print("no server runs here; `jpaged serve MODEL` starts one")
        return 0
    print("\n".join(table(HEAD, rows)))
    return 0


def rows_of(entry: Entry) -> Iterable[tuple[str, ...]]:
    """A row a model."""
    client = Client(entry.url, timeout=SECONDS)
    state, figures = state_of(client), figures_of(client)
    for model in figures or entry.models:
        found = figures.get(model, {})
        counts = [f"{found[name]:.0f}" if name in found else "-" for name in ("running", "waiting")]
        cache = f"{found['cache']:.1%}" if "cache" in found else "-"
        yield model, entry.url, str(entry.pid), state, *counts, cache, ago(time.time(), entry.since)


def state_of(client: Client) -> str:
    """What /health says, in a word."""
    try:
        client.text("/health")
    except ServerError as error:
        if error.status == 503:
            return "draining" if "shutting down" in str(error) else "unwell"
        return "silent" if not error.status else f"HTTP {error.status}"
    return "serving"


def figures_of(client: Client) -> dict[str, dict[str, float]]:
    """Its gauges by model; none if it does not tell (a key that we lack, no /metrics)."""
    try:
        text = client.text("/metrics")
    except ServerError:
        return {}
    names = {metric: name for name, metric in GAUGES.items()}
    found: dict[str, dict[str, float]] = {}
    for sample in map(SAMPLE.match, text.splitlines()):
        if sample is not None and sample["name"] in names:
            model = dict(LABEL.findall(sample["labels"])).get("model_name", "")
            found.setdefault(model, {})[names[sample["name"]]] = float(sample["value"])
    return found
