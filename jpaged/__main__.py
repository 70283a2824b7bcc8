"""`python -m jpaged` is `jpaged`."""

import sys

from jpaged.cli import main

sys.exit(main())
