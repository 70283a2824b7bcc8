"""A comparison as one page, without a network: for each measure, how far every policy is from the
first one, and how sure that is."""

import html
import math
from collections.abc import Sequence

from jpaged.simulator.compare import Comparison, Estimate

WIDTH, ROW, LABEL, VALUE = 860, 26, 150, 190
STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #888; --line: #ddd; --page: #fff;
  --up: #0072b2; --down: #d55e00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #eee; --soft: #999; --line: #444; --page: #181818;
    --up: #56b4e9; --down: #e69f00; }
}
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 900px; margin: 2em auto; padding: 0 1em; }
h2 { font-size: 1.05em; margin: 2em 0 0; } h3 { font-size: .95em; margin: 1.2em 0 .2em; }
p, .soft { color: var(--soft); } svg { display: block; width: 100%; height: auto; }
text { fill: var(--ink); font-size: 13px; } .tick { fill: var(--soft); font-size: 11px; }
.up { stroke: var(--up); fill: var(--up); } .down { stroke: var(--down); fill: var(--down); }
.same { stroke: var(--soft); fill: var(--soft); } .line { stroke: var(--line); }
"""


def compare_page(found: Comparison, measures: Sequence[str], cost_model: str) -> str:
    """The page's HTML."""
    first, count = found.policies[0], _num_seeds(found)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Policies compared</title>",
        f"<style>{STYLE}</style><h1>Policies compared</h1>",
        f"<p>Against <b>{html.escape(first)}</b>, on the same requests, over {count} seeds; bars "
        "hold 95 % of what chance may do. Grey: no difference beyond chance. Steps cost what "
        f"<code>{html.escape(cost_model)}</code> says.</p>",
    ]
    for workload in found.workloads:
        parts.append(f"<h2>{html.escape(workload)}</h2>")
        for measure in measures:
            parts.append(f"<h3>{html.escape(measure)}</h3>{_picture(found, workload, measure)}")
    return "\n".join(parts)


def _num_seeds(found: Comparison) -> int:
    return max(len(values) for each in found.found.values() for values in each.values())


def _picture(found: Comparison, workload: str, measure: str) -> str:
    """A row a policy: its name, its mean, and its difference with its interval."""
    changes = {each: found.difference(workload, each, measure) for each in found.policies}
    reach = max(0.02, *(_far(change) for change in changes.values())) * 1.1
    height = ROW * len(changes) + 22
    body = [_axis(reach, height)]
    for row, (policy, change) in enumerate(changes.items()):
        mean = found.estimate(workload, policy, measure).mean
        body.append(_row(policy, mean, change, reach, ROW * row + ROW // 2 + 4))
    label = html.escape(f"{measure} under {workload}")
    inside = "".join(body)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{inside}</svg>'


def _far(change: Estimate) -> float:
    far = abs(change.mean) + (0.0 if math.isnan(change.error) else change.error)
    return far if math.isfinite(far) else 0.0


def _x(share: float, reach: float) -> float:
    left = LABEL + VALUE
    return left + (WIDTH - left - 20) * (share / reach + 1) / 2


def _axis(reach: float, height: int) -> str:
    ticks = []
    for share in (-reach / 1.1, 0.0, reach / 1.1):
        x = _x(share, reach)
        name = f"{share:+.0%}" if share else "0"
        ticks.append(f'<line class=line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 18}"/>')
        ticks.append(
            f'<text class=tick x="{x:.1f}" y="{height - 4}" text-anchor="middle">{name}</text>'
        )
    return "".join(ticks)


def _row(policy: str, mean: float, change: Estimate, reach: float, y: int) -> str:
    kind = ("up" if change.mean > 0 else "down") if change.is_different else "same"
    text = f'<text x="0" y="{y + 4}">{html.escape(policy)}</text>'
    text += f'<text x="{LABEL}" y="{y + 4}">{mean:.4g}</text>'
    if not math.isfinite(change.mean):
        return text + f'<text class=tick x="{LABEL + 80}" y="{y + 4}">not comparable</text>'
    text += f'<text class=tick x="{LABEL + 80}" y="{y + 4}">{change.mean:+.1%}</text>'
    error = 0.0 if math.isnan(change.error) else change.error
    low, high = _x(change.mean - error, reach), _x(change.mean + error, reach)
    bar = f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke-width="3"/>'
    dot = f'<circle cx="{_x(change.mean, reach):.1f}" cy="{y}" r="5"/>'
    return f"{text}<g class={kind}>{bar}{dot}</g>"
