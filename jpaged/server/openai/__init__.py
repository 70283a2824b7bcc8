"""OpenAI's protocol, with vLLM's fields."""
