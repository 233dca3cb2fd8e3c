"""``python -m dslearn.cli``: the command where its script is not on the path."""

import sys

from dslearn.cli import main

sys.exit(main())
