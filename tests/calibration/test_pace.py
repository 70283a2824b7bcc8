"""How fast an engine is at the moment."""

import time

from engines import an_engine

from jpaged.calibration.accuracy import Comparison
from jpaged.calibration.pace import pace
from jpaged.cli.validate import report


def test_an_engine_whose_steps_take_longer_has_another_pace(tiny_llama):
    with an_engine(tiny_llama, skip_tokenizer_init=True) as engine:
        usual, collect = pace(engine), engine.executor.collect

        def late(handle):
            time.sleep(0.02)
            return collect(handle)

        engine.executor.collect = late  # type: ignore[method-assign]

        assert 0 < usual < 0.02 < pace(engine) < 0.05
        assert not engine.has_unfinished_requests()


def test_a_comparison_says_how_slow_the_engine_was():
    [head, *_] = report(Comparison(0.5, 1.0, 10, ({},), {}, False, slowness=1.31))

    assert "the engine 1.31x as slow as in calibration" in head
    [head, *_] = report(Comparison(0.5, 1.0, 10, ({},), {}, False, slowness=1.02))
    assert "slow" not in head
