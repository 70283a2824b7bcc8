"""What the demo says at its end."""

from rich.table import Table

from jpaged.engine.llm_engine import LLMEngine
from jpaged.engine.outputs import RequestOutput


def summarise(engine: LLMEngine, finished: list[RequestOutput]) -> Table:
    """Speed, pages and waste.  Waste is the share of held memory that holds no token, averaged
    over the steps, as in the PagedAttention paper (SOSP 2023, figure 2)."""
    records, sizes = list(engine.records), engine.sizes
    generated = sum(out.metrics.num_generation_tokens for out in finished if out.metrics)
    seconds = sum(record.end - record.start for record in records)  # pauses left out
    prompts = sum(len(out.prompt_token_ids) for out in finished)
    cached = sum(out.num_cached_tokens for out in finished)
    held = sum(record.slots_held for record in records)
    used = sum(record.slots_used for record in records)
    reserved = sum(record.num_sequences for record in records) * sizes.max_model_len
    table = Table.grid(padding=(0, 2))
    rows = {
        "tokens": f"{generated} generated for {len(finished)} requests in {seconds:.1f} s",
        "speed": f"{generated / seconds:,.0f} tokens/s, at most {sizes.max_num_seqs} together",
        "steps": f"{len(records)}, {engine.num_late_compilations} compiled after warm-up",
        "pages used": f"at most {max(r.pages_held for r in records)} of {sizes.num_pages}, "
        f"{sizes.page_size} tokens each",
        "prefix cache": f"{cached} of {prompts} prompt tokens were found{_finders(finished)}",
        "waste": f"{1 - used / held:.1%} of the memory held; reserving {sizes.max_model_len} "
        f"tokens for each would waste {1 - used / reserved:.1%}",
    }
    for name, value in rows.items():
        table.add_row(f"[bold]{name}[/]", value)
    return table


def _finders(finished: list[RequestOutput]) -> str:
    """Who began as somebody before it had."""
    names = [out.request_id for out in finished if out.num_cached_tokens]
    return f", by {', '.join(names)}: their pages were computed once" if names else ""
