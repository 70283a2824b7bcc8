"""What langchain-openai makes of a server's answers, as JSON."""
# pyright: reportMissingImports=false
# (an extra, which is not there everywhere)

import json
import sys
from importlib.metadata import version

import openai
from langchain_openai import ChatOpenAI

url, prompt = sys.argv[1:]


def model(name: str) -> ChatOpenAI:
    return ChatOpenAI(
        model=name,
        base_url=f"{url}/v1",
        api_key="none needed",
        temperature=0,
        max_tokens=12,
        max_retries=0,
        stream_usage=True,
    )


whole = model("demo").invoke(prompt)
chunks = list(model("demo").stream(prompt))
try:
    model("nothing").invoke(prompt)
    error = ""
except openai.NotFoundError as caught:
    error = str(caught)
print(
    json.dumps(
        {
            "version": version("langchain-openai"),
            "text": whole.content,
            "finish_reason": whole.response_metadata["finish_reason"],
            "prompt_tokens": whole.usage_metadata["input_tokens"],
            "completion_tokens": whole.usage_metadata["output_tokens"],
            "streamed": "".join(chunk.content for chunk in chunks),
            "num_chunks": len(chunks),
            "error": error,
        }
    )
)
