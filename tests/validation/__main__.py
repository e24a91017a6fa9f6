"""Write into CONFORMANCE.md what the OCI validation programs find here: make conformance."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.validation.known import PROGRAMS, REASONS
from tests.validation.pairs import AT_ONCE, Pair, pair
from tests.validation.suite import programs

PAGE = Path(__file__).parents[2] / "CONFORMANCE.md"
BEGIN, END = "<!-- validation: begin -->\n", "<!-- validation: end -->\n"
HEAD = "| program | checks | runc | Orlop | why one fails |\n|---|---|---|---|---|\n"


def report(pairs: dict[str, Pair]) -> str:
    """Return the table: a line for each program with a check that fails, and one for the others."""
    rows = [row(program, found) for program, found in pairs.items() if found.fails]
    good = [found for found in pairs.values() if not found.fails]
    checks = sum(len(found.checks) for found in good)
    return f"{HEAD}{''.join(rows)}| the other {len(good)} | {checks} | all | all | |\n"


def row(program: str, found: Pair) -> str:
    return (
        f"| {program} | {len(found.checks)} | {len(found.runc.passed)} | {len(found.orlop.passed)} "
        f"| {REASONS[program]} |\n"
    )


def main() -> None:
    programs()  # built before there are threads
    with ThreadPoolExecutor(AT_ONCE) as workers:
        pairs = dict(zip(PROGRAMS, workers.map(pair, PROGRAMS), strict=True))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{report(pairs)}{END}{after}")


if __name__ == "__main__":
    main()
