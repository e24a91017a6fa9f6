"""One validation program, run against runc and against Orlop."""

import sys
from dataclasses import dataclass
from pathlib import Path

from tests.validation.runs import Findings, validate

RUNC = Path("/usr/sbin/runc")
ORLOP = Path(sys.executable).with_name("orlop-runtime")
#: How many programs are run side by side; most of their time is sleep.
AT_ONCE = 6
#: Some programs race with the shell in their container, whoever runs it.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Pair:
    """What one program found of both."""

    runc: Findings
    orlop: Findings

    @property
    def checks(self) -> set[str]:
        return self.runc.checks.keys() | self.orlop.checks.keys()

    @property
    def fails(self) -> bool:
        return bool(self.runc.failed or self.orlop.failed)

    @property
    def missing(self) -> list[str]:
        """Checks that runc passes and Orlop does not."""
        return sorted(self.runc.passed - self.orlop.passed)


def pair(program: str) -> Pair:
    """Run *program* against runc, and against Orlop until it does as well."""
    expected = validate(program, RUNC)
    for _ in range(_ATTEMPTS):
        found = Pair(expected, validate(program, ORLOP))
        if not found.missing:
            break
    return found
