"""What Triton's HTTP client makes of a server's answers, as JSON."""
# pyright: reportMissingImports=false
# (an extra, which is not there everywhere)

import json
import sys
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

url, prompt = sys.argv[1:]
client = InferenceServerClient(url.removeprefix("http://"))
text = InferInput("text_input", [1], "BYTES")
text.set_data_from_numpy(np.array([prompt.encode()], dtype=np.object_), binary_data=False)
output = InferRequestedOutput("text_output", binary_data=False)
result = client.infer(
    "demo",
    [text],
    outputs=[output],
    request_id="from-triton",
    parameters={"temperature": 0, "max_tokens": 12, "exclude_input_in_output": True},
)


def refusal_of(call: Callable[[], object]) -> str:
    try:
        call()
    except InferenceServerException as caught:
        return caught.message()
    return ""


binary = InferInput("text_input", [1], "BYTES")
binary.set_data_from_numpy(np.array([prompt.encode()], dtype=np.object_))
print(
    json.dumps(
        {
            "version": version("tritonclient"),
            "text": str(result.as_numpy("text_output")[0]),
            "id": result.get_response()["id"],
            "is_live": client.is_server_live(),
            "is_ready": client.is_server_ready() and client.is_model_ready("demo"),
            "versions": client.get_model_metadata("demo")["versions"],
            "server": client.get_server_metadata()["name"],
            "error": refusal_of(lambda: client.get_model_metadata("nothing")),
            "binary_input": refusal_of(lambda: client.infer("demo", [binary], outputs=[output])),
            "binary_output": refusal_of(lambda: client.infer("demo", [text])),
        }
    )
)
