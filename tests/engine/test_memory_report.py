"""Where an engine's memory is, in numbers that can be checked."""

import jax
from engines import an_engine


def test_a_report_counts_what_is_there(tiny_llama):
    engine = an_engine(tiny_llama, warmup="full")

    report = engine.memory_report()

    leaves = jax.tree.leaves((engine.executor.params, engine.executor.kv_pages))
    assert report.weights + report.kv_pages == sum(leaf.nbytes for leaf in leaves)
    assert report.num_pages * report.page == report.kv_pages
    assert report.num_steps == report.num_step_shapes == len(engine.executor.buckets.all)
    # a step's answer alone: logits of four rows, hidden states of 32 tokens
    assert report.temporary > 4 * 4 * engine.model.vocab + 4 * 32 * 32
    assert report.free > 0
    engine.close()


def test_a_report_can_be_read(tiny_llama):
    engine = an_engine(tiny_llama, warmup="none")

    text = str(engine.memory_report())

    names = [line[:12].strip() for line in text.splitlines()]
    assert names == ["weights", "KV pages", "largest step", "on the host", "free"]
    assert "128 of" in text and "0 of" in text
    engine.close()
