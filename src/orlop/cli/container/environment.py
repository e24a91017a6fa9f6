"""The variables that options of run, create and exec set."""

from __future__ import annotations

from orlop.client.environ import variable


def environment(given: list[str], files: list[str]) -> list[str]:
    """Return KEY=VALUE of files, then of options; a KEY alone hands on ours, if it is set."""
    result = []
    for entry in [line for path in files for line in lines_of(path)] + given:
        key, equals, _ = entry.partition("=")
        if not key or any(letter.isspace() for letter in key):
            raise ValueError(f"invalid environment variable {entry!r}: expected KEY=VALUE")
        if equals:
            result.append(entry)
        elif (value := variable(key)) is not None:
            result.append(f"{key}={value}")
    return result


def lines_of(path: str) -> list[str]:
    """Return the lines of a file of KEY=VALUE, without comments."""
    with open(path, encoding="utf-8-sig") as file:
        lines = [line.rstrip("\r\n").lstrip() for line in file]
    return [line for line in lines if line and not line.startswith("#")]
