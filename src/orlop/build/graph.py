"""Which stages a build needs, and which of them another one names."""

from collections.abc import Mapping

from orlop.build.expand import expand
from orlop.build.parse import Dockerfile, Instruction, Stage
from orlop.errors import InvalidArgumentError


def find_stage(file: Dockerfile, name: str, *, before: int) -> Stage | None:
    """Return the stage *name*, a name or a number, of those before number *before*."""
    wanted = name.lower()
    earlier = file.stages[:before]
    for stage in reversed(earlier):
        if stage.name and stage.name == wanted:
            return stage
    if wanted.isascii() and wanted.isdecimal() and int(wanted) < len(earlier):
        return earlier[int(wanted)]
    return None


def target_stage(file: Dockerfile, name: str) -> Stage:
    """Return the stage that is to become the image, the last one if *name* is empty."""
    if not name:
        return file.stages[-1]
    stage = find_stage(file, name, before=len(file.stages))
    if stage is None:
        raise InvalidArgumentError(f"target stage {name[:100]!r} could not be found")
    return stage


def base_name(stage: Stage, variables: Mapping[str, str], escape: str) -> str:
    """Return what the stage is FROM. InvalidArgumentError if it is empty."""
    try:
        name = expand(stage.start.args[0], variables, escape=escape)
    except ValueError as error:
        raise stage.start.wrong(error) from None
    if not name:
        raise stage.start.wrong(f"base name ({stage.start.args[0]}) should not be blank")
    return name


def base_stage(file: Dockerfile, stage: Stage, name: str) -> Stage | None:
    """Return the stage that *stage* is FROM, if *name* is a stage's and no image's."""
    found = find_stage(file, name, before=stage.number)
    return found if found is not None and found.name == name.lower() else None


def sources_of(one: Instruction) -> list[str]:
    """Return the stages or images that the instruction takes files from."""
    if one.name in ("COPY", "ADD"):
        return [value for name, value in one.flags if name == "from"]
    mounts = [value for name, value in one.flags if name == "mount"]
    parts = [part.partition("=") for mount in mounts for part in mount.split(",")]
    return [value for name, _, value in parts if name.strip().lower() == "from"]


def needed(file: Dockerfile, target: Stage, variables: Mapping[str, str]) -> list[Stage]:
    """Return *target* and all stages that it needs, in the file's order."""
    found: dict[int, Stage] = {}
    pending = [target]
    while pending:
        stage = pending.pop()
        if stage.number in found:
            continue
        found[stage.number] = stage
        base = base_stage(file, stage, base_name(stage, variables, file.escape))
        named = [
            find_stage(file, name, before=stage.number)
            for step in stage.steps
            for name in sources_of(step)
        ]
        pending += [one for one in (base, *named) if one is not None]
    return [found[number] for number in sorted(found)]
