"""``python -m maskris`` and ``torchrun -m maskris train …``: the command line."""

import sys

from maskris.apps.cli import main

sys.exit(main())
