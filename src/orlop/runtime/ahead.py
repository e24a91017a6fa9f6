"""What a start needs and what can be made while nobody waits for it."""

from orlop.runtime.cgroups.pool import Pool
from orlop.runtime.reserve import Reserves


class Ahead:
    """Spare cgroups, and processes in reserve. For one process without threads."""

    def __init__(self) -> None:
        self.cgroups = Pool()
        self.processes = Reserves()
        self.cgroups.sweep()

    def refill(self) -> bool:
        """Make one thing that is missing; return whether more may be."""
        return self.processes.refill() or self.cgroups.refill()

    def close(self) -> None:
        """Give everything back."""
        self.processes.close()
        self.cgroups.close()
