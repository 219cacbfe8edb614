"""``python -m maskris`` and ``torchrun -m maskris train …``: the command line."""

import sys

from maskris.cli.main import main

sys.exit(main())
