"""What litellm makes of a server's answers, as JSON."""
# pyright: reportMissingImports=false
# (an extra, which is not there everywhere)

import json
import sys
from importlib.metadata import version

import litellm

url, prompt = sys.argv[1:]
common = {
    "model": "hosted_vllm/demo",
    "api_base": f"{url}/v1",
    "api_key": "none needed",
    "temperature": 0,
    "max_tokens": 12,
}
messages = [{"role": "user", "content": prompt}]
whole = litellm.completion(messages=messages, **common)
chunks = list(litellm.completion(messages=messages, stream=True, **common))
try:
    litellm.completion(messages=messages, **{**common, "model": "hosted_vllm/nothing"})
    error = ""
except litellm.NotFoundError as caught:
    error = str(caught)
print(
    json.dumps(
        {
            "version": version("litellm"),
            "text": whole.choices[0].message.content,
            "finish_reason": whole.choices[0].finish_reason,
            "prompt_tokens": whole.usage.prompt_tokens,
            "completion_tokens": whole.usage.completion_tokens,
            "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
            "num_chunks": len(chunks),
            "error": error,
        }
    )
)
