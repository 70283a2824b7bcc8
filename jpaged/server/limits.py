"""How much one request may ask for.  Checked at the edge, before anything is built from it."""

import re

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 100
MAX_URL_BYTES = 8 * 1024
MAX_BODY_BYTES = 8 * 1024 * 1024
HEADER_SECONDS = 10.0  # a client has so long to send its headers
BODY_SECONDS = 20.0  # and so long to send its body
STALLED_SECONDS = 120.0  # and is gone if it takes nothing for so long of what waits for it
LINGER_BYTES = 64 * 1024 * 1024  # what is read and dropped of a refused body, so that the refusal
LINGER_SECONDS = 2.0  # is read before the connection ends

MAX_PROMPTS = 1024
MAX_SAMPLES = 1024  # of all prompts together
MAX_STOPS = 16
MAX_STOP_CHARS = 512
MAX_BAD_WORDS = 256
MAX_TOKEN_IDS = 1024  # in a list of stop token ids
MAX_MESSAGES = 4096
MAX_DEADLINE = 24 * 3600.0
MAX_WHOLE = 2**63 - 1

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
REQUEST_ID_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"


def is_request_id(text: str) -> bool:
    """Opaque, and harmless wherever it is written: in logs, headers, file names."""
    return REQUEST_ID.fullmatch(text) is not None
