"""`python -m deepad` is the `deepad` command."""

import sys

from deepad.cli import main

sys.exit(main())
