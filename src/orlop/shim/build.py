"""What a shim is made of: after an upgrade the one that runs is another than we would start."""

import sys

from orlop import __version__

BUILD = f"Orlop {__version__} with Python {sys.version.split()[0]}"
