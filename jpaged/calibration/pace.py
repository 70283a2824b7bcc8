"""How fast an engine is at the moment.

Shared machines have two or three speeds, a third apart, and change between them within minutes:
sometimes of their memory only, while plain Python is as fast as ever.  Costs that were measured at
one speed do not foretell another: whoever compares must know.
"""

from statistics import median

from jpaged.calibration.meter import metered
from jpaged.calibration.workload import ORDINARY
from jpaged.engine.llm_engine import LLMEngine
from jpaged.sampling_params import SamplingParams

NUM_STEPS = 160


def pace(engine: LLMEngine) -> float:
    """Seconds of a step in which one sequence says a token, the median of many.

    The engine must have nothing to do.
    """
    count = min(NUM_STEPS, engine.sizes.max_model_len - 1)
    prompt = [min(ORDINARY, engine.model.vocab - 1)]
    with metered(engine) as meter:
        params = SamplingParams(temperature=0, max_tokens=count, ignore_eos=True)
        engine.add_request("pace", prompt, params)
        while engine.has_unfinished_requests():
            engine.step()
    return median(each.most for each in meter.steps)
