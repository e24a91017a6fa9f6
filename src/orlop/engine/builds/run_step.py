"""The instruction RUN."""

import json

from msgspec.structs import replace

from orlop.build.arguments import PROXIES
from orlop.build.mounts import RunMount, parse_mount
from orlop.build.parse import Instruction
from orlop.engine.builds import mounting
from orlop.engine.builds.cache import settings
from orlop.engine.builds.request import BuildEvent
from orlop.engine.builds.run import run as run_container
from orlop.engine.builds.state import State, check_flags
from orlop.errors import CommandFailedError
from orlop.images.pull import Layer
from orlop.model.container import Container, ContainerOptions, Health

_FLAGS = frozenset({"network", "security", "mount"})
_DEFAULT_SHELL = ("/bin/sh", "-c")
_MOST_SHOWN = 1000


async def run(state: State, one: Instruction) -> None:
    """Run the command in a container; what it writes becomes a layer."""
    flags = check_flags(one, _FLAGS)
    if flags.get("security", "sandbox") != "sandbox":
        raise one.wrong("--security has no other value than sandbox here")
    command, arguments = _command(state, one), _arguments(state)
    mounts = _mounts(state, one)
    request = state.tools.request
    network = _network(one, flags.get("network", ""), request.network)
    options = ContainerOptions(
        entrypoint=(),
        command=command,
        environment=tuple(f"{name}={value}" for name, value in arguments.items()),
        health=Health(test=("NONE",)),
        network=network,
        resources=request.resources,
        shm_size_bytes=request.shm_size_bytes,
        extra_hosts=request.extra_hosts,
        cgroup_parent=request.cgroup_parent,
    )
    shown = {name: value for name, value in arguments.items() if name not in PROXIES}
    inputs = {
        "command": json.dumps(command),
        "build arguments": json.dumps(shown),
        "network": network,
        **settings(state.process),
    }
    if mounts:
        inputs |= {"mounts": mounting.inputs(mounts)}
        shown_files = [await mounting.digest_of(state, one, m) for m in mounts if m.kind == "bind"]
        inputs |= {"mounted files": json.dumps(shown_files)}

    async def make() -> Layer:
        async with mounting.mounted(state, one, mounts) as points:
            return await _layer(state, one, replace(options, mounts=tuple(points)))

    made = await state.grown(one, inputs, make)
    prefix = [f"|{len(shown)}", *(f"{n}={v}" for n, v in shown.items())] if shown else []
    state.extend(state.process, " ".join(["RUN", *prefix, *command]), made)


async def _layer(state: State, one: Instruction, options: ContainerOptions) -> Layer:
    layers: list[Layer] = []

    async def then(container: Container) -> None:
        layers.append(await state.tools.layers.of_container(container))

    async def hear(data: bytes) -> None:
        await state.tell(BuildEvent(kind="output", data=data))

    status = await run_container(state.tools.containers, state.image, options, hear, then=then)
    if status != 0:
        shown = " ".join(options.command or ())[:_MOST_SHOWN]
        text = f"{one.place}: the command '{shown}' returned a non-zero code: {status}"
        raise CommandFailedError(text, code=status)
    return layers[0]


def _mounts(state: State, one: Instruction) -> list[RunMount]:
    texts = [state.expanded(one, value) for name, value in one.flags if name == "mount"]
    return [parse_mount(one, text, state.process.working_dir) for text in texts]


def _command(state: State, one: Instruction) -> tuple[str, ...]:
    if one.is_json and one.args:
        return one.args
    text = one.args[0] if one.args else ""
    if not text.strip():
        raise one.wrong("a command is missing")
    if len(one.heredocs) == 1 and text.strip() in _openings(one.heredocs[0].name):
        text = one.heredocs[0].content  # the whole command
    else:
        for doc in one.heredocs:
            text += f"\n{doc.content}{doc.name}"
    return (*(state.process.shell or _DEFAULT_SHELL), text)


def _openings(name: str) -> set[str]:
    return {f"<<{dash}{quote}{name}{quote}" for dash in ("", "-") for quote in ("", "'", '"')}


def _arguments(state: State) -> dict[str, str]:
    """Return the variables besides the image's: ARGs in scope, and the client's proxies."""
    given = state.tools.request.arguments
    proxies = {name: value for name, value in given.items() if name in PROXIES}
    named = {entry.partition("=")[0] for entry in state.process.env}
    every = {**proxies, **state.scope.arguments}
    return {name: value for name, value in every.items() if name not in named}


def _network(one: Instruction, flag: str, asked: str) -> str:
    if flag not in ("", "default", "none", "host"):
        raise one.wrong(f"--network={flag[:50]}: expected default, none or host")
    if flag == "host" and asked != "host":
        raise one.wrong("--network=host needs a build with --network=host")
    return asked if flag in ("", "default") else flag
