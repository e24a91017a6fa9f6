"""`python -m orlop` is the command line."""

import sys

from orlop.programs.orlop import main

sys.exit(main())
