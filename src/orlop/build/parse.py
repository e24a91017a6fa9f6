"""Parse a Dockerfile into stages. Dockerfile reference; heredocs and directives included."""

from typing import NamedTuple

from e2b_dockerfile_utils import DockerfileSyntaxError, parse_dockerfile_ast
from e2b_dockerfile_utils import syntax as foreign

from orlop.errors import InvalidArgumentError, UnsupportedError

MOST_BYTES = 1 << 20
_MOST_INSTRUCTIONS = 10_000
_STANDARD = ("docker/dockerfile", "docker.io/docker/dockerfile")


class Heredoc(NamedTuple):
    name: str
    content: str
    expands: bool


class Instruction(NamedTuple):
    """One instruction. *args* are still quoted; a shell form is one argument."""

    name: str
    args: tuple[str, ...]
    flags: tuple[tuple[str, str], ...]
    heredocs: tuple[Heredoc, ...]
    is_json: bool
    text: str
    place: str  # FILE:LINE

    def wrong(self, why: object) -> InvalidArgumentError:
        """Return the error that this instruction is wrong."""
        return InvalidArgumentError(f"{self.place}: {self.name}: {str(why)[:500]}")


class Stage(NamedTuple):
    number: int
    name: str  # lower case; "" without one
    start: Instruction
    steps: tuple[Instruction, ...]


class Dockerfile(NamedTuple):
    arguments: tuple[Instruction, ...]  # the ARGs before the first FROM
    stages: tuple[Stage, ...]
    escape: str


def parse(data: bytes, file: str = "Dockerfile") -> Dockerfile:
    """Return the stages of *data*; InvalidArgumentError with FILE:LINE where it is wrong."""
    if len(data) > MOST_BYTES:
        raise InvalidArgumentError(f"{file} is larger than {MOST_BYTES >> 20} MiB")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{file} is not UTF-8: {error.reason}") from None
    _check_syntax(text, file)
    instructions, escape = _instructions(text, file)
    return _staged(instructions, escape, file)


def parse_trigger(text: str, file: str) -> Instruction:
    """Return the one instruction of an image's ONBUILD."""
    found = _instructions(text, file)[0]
    if len(found) != 1 or found[0].name in ("FROM", "ONBUILD", "MAINTAINER"):
        raise InvalidArgumentError(f"{file}: ONBUILD cannot have {text[:100]!r}")
    return found[0]


def _instructions(text: str, file: str) -> tuple[list[Instruction], str]:
    try:
        tree = parse_dockerfile_ast(text)
    except DockerfileSyntaxError as error:
        line = getattr(error, "line", None)
        place = f"{file}:{line}" if line else file
        why = str(error).partition(": ")[2]  # before it the parser names the line, too
        raise InvalidArgumentError(f"{place}: {why[:500]}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"{file}: {str(error)[:500]}") from None
    if len(tree.instructions) > _MOST_INSTRUCTIONS:
        raise InvalidArgumentError(f"{file} has more than {_MOST_INSTRUCTIONS} instructions")
    return [_converted(one, file) for one in tree.instructions], tree.escape_token


def _converted(one: foreign.DockerfileInstruction, file: str) -> Instruction:
    flags = tuple(_flag(text, f"{file}:{one.start_line}") for text in one.flags)
    heredocs = tuple(
        Heredoc(
            doc.name,
            foreign.chomp_heredoc_content(doc.content) if doc.chomp else doc.content,
            doc.expand,
        )
        for doc in one.heredocs
    )
    args = tuple(one.args)
    if one.name == "ONBUILD":
        args = tuple(one.original.strip().split(maxsplit=1)[1:])
    return Instruction(
        name=one.name,
        args=args,
        flags=flags,
        heredocs=heredocs,
        is_json=one.json,
        text=one.original.strip(),
        place=f"{file}:{one.start_line}",
    )


def _flag(text: str, place: str) -> tuple[str, str]:
    name, equals, value = text.removeprefix("--").partition("=")
    if not name:
        raise InvalidArgumentError(f"{place}: a flag has no name: {text[:100]!r}")
    return name.lower(), value if equals else "true"


def _staged(instructions: list[Instruction], escape: str, file: str) -> Dockerfile:
    arguments: list[Instruction] = []
    stages: list[tuple[Instruction, list[Instruction]]] = []
    for one in instructions:
        if one.name == "FROM":
            stages.append((one, []))
        elif stages:
            stages[-1][1].append(one)
        elif one.name == "ARG":
            arguments.append(one)
        else:
            raise one.wrong("no build stage in current context: FROM comes first")
    if not stages:
        raise InvalidArgumentError(f"{file} has no FROM")
    made = tuple(
        Stage(number, _stage_name(start), start, tuple(steps))
        for number, (start, steps) in enumerate(stages)
    )
    return Dockerfile(tuple(arguments), made, escape)


def _stage_name(start: Instruction) -> str:
    if len(start.args) == 3 and start.args[1].upper() == "AS":
        return start.args[2].lower()
    if len(start.args) != 1:
        raise start.wrong("expected FROM IMAGE or FROM IMAGE AS NAME")
    return ""


def _check_syntax(text: str, file: str) -> None:
    """Refuse a front end that is not the standard one."""
    for line in text.lstrip("\ufeff").splitlines():
        word, equals, value = line.lstrip("# \t").partition("=")
        if not line.startswith("#") or not equals:
            return
        if word.strip().lower() == "syntax":
            image = value.strip()
            name = image.partition("@")[0].partition(":")[0]
            if name not in _STANDARD:
                raise UnsupportedError(f"{file}: the front end {image[:100]} is not supported")
