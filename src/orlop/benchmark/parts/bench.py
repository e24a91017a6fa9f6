"""What a part is given, and how it goes on when a driver fails."""

from collections.abc import Callable, Iterator, Sequence

from orlop.benchmark.driver import Driver
from orlop.benchmark.figures import Results, Row
from orlop.benchmark.plan import Plan
from orlop.errors import OrlopError, UnsupportedError


class Bench:
    """The plan, the drivers, and where rows go."""

    def __init__(
        self,
        plan: Plan,
        results: Results,
        drivers: Sequence[Driver],
        say: Callable[[str, float], None],
    ) -> None:
        self.plan = plan
        self.drivers = drivers
        self._results = results
        self._say = say
        self._part = ""
        self._said = "", 0.0
        self._failed: set[str] = set()

    def begin(self, part: str) -> None:
        """From now on rows are of *part*."""
        self._part = part
        self._failed = set()
        self.progress(0)

    def add(self, row: Row) -> None:
        self._results.rows.append(row)

    def left_out(self, what: str) -> None:
        """Say what is missing, and why."""
        self._results.left_out.append(f"{self._part}: {what}")

    def progress(self, share: float, what: str = "") -> None:
        """Say how much of the part is done, 0 to 1."""
        self._said = f"{self._part} {what}".strip(), share
        self.pulse()

    def pulse(self) -> None:
        """To be called often: here an interrupted run ends."""
        self._say(*self._said)

    def turns(self, rounds: int, drivers: Sequence[Driver]) -> Iterator[tuple[int, Driver]]:
        """Give each driver in each round: all see the same of the machine's moods.

        One that has failed is not given again.
        """
        total = rounds * len(drivers)
        for number in range(rounds):
            for position, driver in enumerate(drivers):
                if driver.name not in self._failed:
                    self.progress((number * len(drivers) + position) / total, driver.name)
                    yield number, driver

    def attempt(self, driver: Driver, action: Callable[[], None]) -> bool:
        """Do *action*; where it fails, leave the driver out of this part, and say why."""
        try:
            action()
        except UnsupportedError:
            self._failed.add(driver.name)
            return False
        except Exception as error:  # one driver's failure is no reason to lose the others' figures
            self._failed.add(driver.name)
            self.left_out(f"{driver.name}: {in_words(error)}")
            return False
        return True


def in_words(error: Exception) -> str:
    """Return what a user can read; of what nobody foresaw, its name too."""
    known = isinstance(error, (OrlopError, OSError))
    return str(error) if known else f"{type(error).__name__}: {error}"
