"""Parts: what they are, what they are given, and how they go on when a driver fails."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from orlop.benchmark.driver import BenchDriver
from orlop.benchmark.figures import Row, samples_of, spread
from orlop.benchmark.image import Image
from orlop.benchmark.plan import BenchPlan
from orlop.errors import OrlopError, UnsupportedError

T = TypeVar("T")
#: A row; what was left out, and why; or what is done, and how much of the part.
Found = Row | str | tuple[str, float]


class Part(NamedTuple):
    title: str
    measure: "Callable[[Bench], None]"
    #: The figure by which drivers are compared with Orlop.
    compared: str = ""
    #: What --set changes, with its default.
    settings: Mapping[str, str] = MappingProxyType({})
    #: It needs none of the run's drivers but a process of its own, where it may change what it
    #: likes: namespaces, limits, the code that is measured.
    alone: bool = False


@dataclass(kw_only=True)
class Results:
    """What has been found so far; written out also when the run is interrupted."""

    machine: Mapping[str, object]
    plan: Mapping[str, object]
    parts: Mapping[str, Part]
    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    interrupted: bool = False


class Bench:
    """The plan, the drivers, and where rows go."""

    def __init__(
        self, plan: BenchPlan, image: Image, folders: Sequence[Path], tell: Callable[[Found], None]
    ) -> None:
        self.plan = plan
        self.image = image
        self.drivers: Sequence[BenchDriver] = ()
        self.settings: Mapping[str, str] = {}
        self._folders = folders
        self.tell = tell
        self._part = ""
        self._said = "", 0.0
        self._failed: set[str] = set()

    def begin(self, part: str, settings: Mapping[str, str]) -> None:
        """From now on rows are of *part*."""
        self._part = part
        self._failed = set()
        given = {name: value for name, value in self.plan.settings.items() if name in settings}
        self.settings = {**settings, **given}
        self.progress(0)

    def places(self, name: str) -> list[Path]:
        """Make a folder for the state of *name*, and one in memory for sockets and the like."""
        made = [folder / f"{self._part or 'run'}-{name}" for folder in self._folders]
        for folder in made:
            folder.mkdir()
        return made

    def add(
        self,
        driver: str,
        figures: Mapping[str, float],
        *,
        case: str = "",
        at: float = 0.0,
        samples: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """Add a row: what was found of *driver* in a case."""
        row = Row(self._part, driver, case, at, figures, samples or {})
        self.tell(row)

    def add_each(
        self, found: Mapping[str, Sequence[Any]], *, case: str = "", count: str = "rounds"
    ) -> None:
        """Add a row for each driver, of what was measured of it in all its rounds."""
        for name, values in found.items():
            samples = samples_of(values)
            figures = {count: len(values), **spread(samples)}
            self.add(name, figures, case=case, samples=samples)

    def add_medians(self, found: Mapping[str, Sequence[Any]], *, case: str = "") -> None:
        """Add a row for each driver, of tuples of figures, each of which is of many of a thing."""
        for name, values in found.items():
            samples = samples_of(values)
            figures = {figure: statistics.median(every) for figure, every in samples.items()}
            self.add(name, figures, case=case, samples=samples)

    def left_out(self, what: str) -> None:
        """Say what is missing, and why."""
        self.tell(f"{self._part}: {what}")

    def progress(self, share: float, what: str = "") -> None:
        """Say how much of the part is done, 0 to 1."""
        self._said = f"{self._part} {what}".strip(), share
        self.pulse()

    def pulse(self) -> None:
        """To be called often: here an interrupted run ends."""
        self.tell(self._said)

    def each(self, actions: Mapping[str, Callable[[], object]], rounds: int = 1) -> None:
        """Do each of *actions*, called after drivers, in turns: all see the machine's same moods.

        One that fails is left out of this part from then on, and it is said why.
        """
        total = rounds * len(actions)
        for turn in range(total):
            name = list(actions)[turn % len(actions)]
            if name in self._failed:
                continue
            self.progress(turn / total, name)
            try:
                actions[name]()
            except UnsupportedError:
                self._failed.add(name)
            except Exception as error:  # one's failure is no reason to lose the others' figures
                self._failed.add(name)
                self.left_out(f"{name}: {in_words(error)}")

    def alternate(
        self,
        actions: Mapping[str, Callable[[], T]],
        rounds: int,
        add: Callable[[Mapping[str, list[T]]], None] | None = None,
    ) -> None:
        """Do each of *actions* in turns, *rounds* times after one that is not counted.

        However it ends, *add* (or else add_each) gets what those returned that were done.
        """
        found: dict[str, list[T]] = defaultdict(list)

        def act(name: str) -> None:
            found[name].append(actions[name]())

        try:
            self.each({name: partial(act, name) for name in actions}, rounds + 1)
        finally:
            done = {name: values[1:] for name, values in found.items() if values[1:]}
            (add or self.add_each)(done)


def in_words(error: Exception) -> str:
    """Return what a user can read; of what nobody foresaw, its name too."""
    known = isinstance(error, (OrlopError, OSError))
    return str(error) if known else f"{type(error).__name__}: {error}"
