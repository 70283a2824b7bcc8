"""An engine's event log, against the records that the engine keeps itself."""

from engines import greedily, random_prompts, run

from jpaged.analysis import EventLog, Result, read_log
from jpaged.scheduling.terms import Terms


def test_an_engine_is_logged_as_it_serves(engine, tmp_path):
    path, before = tmp_path / "run.jsonl", Result.of(engine)
    with EventLog(path) as log:
        log.attach(engine, trace_pages=True)
        for index, prompt in enumerate(random_prompts(0, 5)):
            terms = Terms(client="ab"[index % 2])
            engine.add_request(str(index), prompt, greedily(), terms=terms)
        run(engine)
    result, after = read_log(path), Result.of(engine)

    assert result.records == after.records[len(before.records) :] and len(result.records) > 8
    assert result.ended == after.ended[len(before.ended) :] and len(result.ended) == 5
    assert result.about == after.about and result.about["model"] == engine.config.model
    [trace] = result.page_traces
    held = [sum(bool(cell.holders) for cell in cells) for _, cells in trace.replay()]
    assert held == [record.pages_held for record in result.records]
