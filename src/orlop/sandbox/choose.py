"""Which way a sandbox takes to its engine."""

from orlop.sandbox.direct import DirectWay
from orlop.sandbox.options import Options
from orlop.sandbox.way import Way


def way_of(options: Options) -> Way:
    """Return the way for a sandbox of these *options*."""
    return DirectWay(options.settings())
