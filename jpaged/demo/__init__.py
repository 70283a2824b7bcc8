"""`make demo`: the bundled model writes several stories at once, and shows the pages it uses."""

import time

STARTED = time.monotonic()  # before JAX and the tokenizers are imported
