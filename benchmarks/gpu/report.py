"""The results as JSON and as tables."""

import importlib.metadata
import json
import subprocess
import sys
import time
from pathlib import Path

from journal import Journal

PACKAGES = ("jax", "jaxlib", "jax-triton", "triton", "torch", "transformers", "flax")
OURS = ("decode", "prefill", "engine", "writes")  # parts
TARGETS = """Targets on an H200: decode >= 75 % of a copy's bandwidth at batch 64-256 and context
1k-8k, >= 65 % on skewed lengths, >= 60 % at batch 1 and context 32k; prompts >= 50 % of a bf16
matmul at 4k tokens; the engine's decode step <= 1.25x its roofline at batch 32-256 and >= 4x
transformers' continuous batching."""


def machine(is_dry: bool) -> dict[str, str]:
    """GPU, driver, versions and commit, asked without starting any of it here."""
    fields = "name,driver_version,memory.total,clocks.max.sm,power.limit"
    gpu = _said(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"])
    root = Path(__file__).resolve().parents[2]
    commit = _said(["git", "-C", str(root), "rev-parse", "--short", "HEAD"])
    changed = "+" if _said(["git", "-C", str(root), "status", "--porcelain"]) else ""
    found = {"gpu": gpu or "none", "cuda": _said(["nvcc", "--version"]).split("\n")[-1]}
    found |= {"python": sys.version.split()[0], "commit": (commit or "?") + changed}
    if is_dry:
        found["sizes"] = "toys, on the CPU"
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def _said(words: list[str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def write_report(folder: Path, facts: dict[str, str], parts: list[str]) -> list[dict]:
    """Reads all journals and writes gpu.json and gpu.md; returns the rows."""
    rows = [row for part in parts for row in Journal(folder, part).rows()]
    for row in rows:
        ratio = _ratio(row, rows)
        if row.get("beside") is not None and ratio is not None:
            row["verdict"] = ratio >= row["beside"]
    left_out = {part: names for part in parts if (names := Journal(folder, part).not_reached())}
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    report = {"time": when, "machine": facts, "rows": rows, "not_reached": left_out}
    (folder / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "gpu.md").write_text(as_markdown(facts, rows, left_out) + "\n")
    return rows


def as_markdown(facts: dict[str, str], rows: list[dict], left_out: dict[str, list[str]]) -> str:
    about = ", ".join(f"{name} {value}" for name, value in facts.items())
    lines = [f"Measured on: {about}", "", TARGETS, "", _summary(rows), ""]
    for part, names in left_out.items():
        lines.append(f"- {part}: no time was left for {len(names)} cases: {'; '.join(names)}")
    for part in dict.fromkeys(row["part"] for row in rows):
        mine = [row for row in rows if row["part"] == part]
        lines += ["", f"## {part}", "", *_table(mine, rows)]
    return "\n".join(lines)


def _summary(rows: list[dict]) -> str:
    failed = [row for row in rows if "error" in row]
    wrong = [row for row in rows if "error" not in row and row["verdict"] is False]
    text = f"{len(rows)} rows, {len(failed)} failed, {len(wrong)} miss their target or are wrong."
    named = [f"- {row['part']} · {row['case']}: {_one_line(row['error'])}" for row in failed]
    named += [f"- {row['part']} · {row['case']}: {_share(row) or row['value']}" for row in wrong]
    return "\n".join([text, "", *named]) if named else text


def _table(rows: list[dict], everything: list[dict]) -> list[str]:
    lines = [
        "| case | value | share | target | | beside ours | note |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "error" in row:
            error = _one_line(row["error"]).replace("|", "/")
            lines.append(f"| {row['case']} | failed | | | no | | {error} |")
            continue
        verdict = {True: "yes", False: "**no**", None: ""}[row["verdict"]]
        more = ", ".join(f"{name} {_number(value)}" for name, value in row["more"].items())
        note = "; ".join(filter(None, (row["note"], more)))
        ratio = _ratio(row, everything)
        beside = "" if ratio is None else f"{ratio:.2f}x"
        lines.append(
            f"| {row['case']} | {row['value']:.5g} {row['unit']} | {_share(row)} | {_target(row)} "
            f"| {verdict} | {beside} | {note} |"
        )
    return lines


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _share(row: dict) -> str:
    return "" if row["share"] is None else f"{row['share']:.1%} of {row['of']}"


def _target(row: dict) -> str:
    if row["target"] is not None:
        return f">= {row['target']:.0%}"
    if row["beside"] is not None:
        return f">= {row['beside']:g}x ours"
    return "" if row["at_most"] is None else f"<= {row['at_most']:g}"


def _ratio(row: dict, rows: list[dict]) -> float | None:
    """To what our first row with this key found."""
    ours = [each for each in rows if each["part"] in OURS and each.get("key") == row.get("key")]
    if not row.get("key") or not ours or ours[0] is row:
        return None
    return row["value"] / ours[0]["value"]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
