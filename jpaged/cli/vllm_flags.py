"""Flags of vLLM's that people copy and jpaged lacks, and what to do about each."""

from jpaged.config import VLLMS

OURS = {
    "num_gpu_blocks_override": "--num-pages",
    "enable_log_requests": "--log-requests",
    "disable_log_requests": "--no-log-requests",
    "disable_frontend_multiprocessing": "--in-process",
}
WHY = {
    "--warmup says what is compiled": "enforce_eager compilation_config",
    "there is none unless --log-access says so": "disable_uvicorn_access_log",
    "figures are at /metrics": "disable_log_stats",
    "jpaged never runs code from a checkpoint": "trust_remote_code",
    "the files say what they are": "load_format",
    "HF_HUB_CACHE says where": "download_dir",
    "set HF_TOKEN": "hf_token",
    "several devices are not built yet": (
        "tensor_parallel_size tp pipeline_parallel_size pp data_parallel_size dp "
        "enable_expert_parallel distributed_executor_backend"
    ),
    "quantisation is not built yet": "quantization q kv_cache_dtype",
    "LoRA is not built yet": "enable_lora lora_modules max_loras max_lora_rank",
    "speculation is not built yet": "speculative_config",
    "tools are not built yet": "enable_auto_tool_choice tool_call_parser",
    "thoughts are not told from answers yet": "reasoning_parser",
    "structured output is not built yet": "structured_outputs_config",
    "images are not built yet": "limit_mm_per_prompt",
    "TLS is for a proxy before it": "ssl_keyfile ssl_certfile ssl_ca_certs",
}
REASONS = {name: why for why, names in WHY.items() for name in names.split()}


def answer_to(flag: str) -> str | None:
    """What to do in place of it; None if it is none of theirs that we know."""
    name = flag.lstrip("-").partition("=")[0].replace("-", "_")
    if name in OURS:
        return f"here it is {OURS[name]}"
    if name in REASONS:
        return f"leave it out; {REASONS[name]}"
    return "leave it out; jpaged has none" if name in VLLMS else None
