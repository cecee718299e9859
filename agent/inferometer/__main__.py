"""Run the command line as ``python -m inferometer``."""

import sys

from inferometer.cli import main

sys.exit(main())
