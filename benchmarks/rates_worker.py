"""`vllm bench serve` again and again in one process, driven over standard input.

    python rates_worker.py      in vLLM's environment

Reads JSON lines of its flags, ["--base-url", …], and answers one with its result's content; the
first line says that it is ready.  What it prints itself goes to standard error.
"""

import asyncio
import contextlib
import json
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

# pyright: reportMissingImports=false
from vllm.benchmarks.serve import add_cli_args, main_async  # noqa: E402
from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: E402


def main() -> None:
    parser = FlexibleArgumentParser()
    add_cli_args(parser)
    print("{}", flush=True)
    for line in sys.stdin:
        args = parser.parse_args(json.loads(line))
        with contextlib.redirect_stdout(sys.stderr):
            result = asyncio.run(main_async(args))
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
