"""How a checkpoint wants its tokens chosen, unless a request says otherwise."""

from pathlib import Path
from typing import Any

from jpaged.errors import RequestRejected, UnsupportedModel
from jpaged.sampling_params import SamplingParams
from jpaged.weights.folder import read_json

# generation_config.json's names -> ours
GENERATION_DEFAULTS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}


def sampling_defaults(folder: Path) -> dict[str, Any]:
    """Arguments of `SamplingParams`, from the folder's generation_config.json.

    Raises `UnsupportedModel` for some that no request may have.
    """
    stored = read_json(folder, "generation_config.json")
    defaults = {
        ours: stored[theirs]
        for theirs, ours in GENERATION_DEFAULTS.items()
        if stored.get(theirs) is not None
    }
    try:
        SamplingParams(**defaults)
    except RequestRejected as error:  # or every request would be told so
        raise UnsupportedModel(f"{folder / 'generation_config.json'}: {error}") from error
    return defaults
