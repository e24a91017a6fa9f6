"""What the container path needs for a start and can make ahead of it."""

from orlop.runtime.cgroups.pools import SpareCgroups, sweep
from orlop.runtime.reserve import Reserves


class Ahead:
    """Spare cgroups, and processes in reserve. For one process without threads."""

    def __init__(self) -> None:
        self.cgroups = SpareCgroups()
        self.processes = Reserves()
        sweep()

    def refill(self) -> bool:
        """Make one thing that is missing; return whether more may be missing."""
        return self.processes.refill() or self.cgroups.pool.refill()

    def close(self) -> None:
        """Give everything back."""
        self.processes.close()
        self.cgroups.pool.close()
