"""`python -m nasdistill` is the command `nasdistill`."""

import sys

from nasdistill.cli.main import main

sys.exit(main())
