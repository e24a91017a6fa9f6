"""Solve one stage of a build: its instructions, one after the other."""

from collections.abc import Awaitable, Callable, Mapping

from msgspec.structs import replace

from orlop.build import graph
from orlop.build.arguments import PROXIES, declared
from orlop.build.config import CHANGES, changed
from orlop.build.expand import expand
from orlop.build.parse import Instruction, Stage, parse_trigger
from orlop.engine.builds.copy_step import copy, workdir
from orlop.engine.builds.request import BuildEvent
from orlop.engine.builds.run_step import run
from orlop.engine.builds.stages import Stages
from orlop.engine.builds.state import State, check_flags
from orlop.images.build import Draft, draft
from orlop.model.platform import host_platform, parse_platform


async def run_stage(stages: Stages, stage: Stage) -> Draft:
    """Solve one stage and return its image."""
    state = State(stages, stage)
    try:
        await _tell_step(state, stage.start)
        state.image = await _base(state)
        await _run_triggers(state)
        for one in stage.steps:
            await _tell_step(state, one)
            await _take(state, one)
    except Exception:
        await stages.told.fail(stage.number)
        raise
    await stages.told.finish(stage.number)
    return state.image


async def _tell_step(state: State, one: Instruction) -> None:
    await state.tell(BuildEvent(kind="step", text=one.text))


async def _run_triggers(state: State) -> None:
    """Take the steps that the base image has left for those that are built on it."""
    triggers = state.process.on_build
    if not triggers:
        return
    state.set_process(replace(state.process, on_build=()))
    place = state.stage.start.place
    for number, text in enumerate(triggers, 1):
        one = parse_trigger(text, f"{place}: ONBUILD {number}")
        await state.tell(BuildEvent(kind="notice", text=f"# trigger: {text}"))
        await _take(state, one)


async def _base(state: State) -> Draft:
    start, file, stages = state.stage.start, state.stages.file, state.stages
    check_flags(start, frozenset({"platform"}))
    name = graph.base_name(state.stage, stages.arguments, file.escape)
    platform = _platform(state)
    stage = graph.base_stage(file, state.stage, name)
    if stage is not None:
        return await stages.image_of(stage)
    if name != "scratch":
        return await stages.pulled(name, platform, state.stage)
    image = draft(parse_platform(platform) if platform else host_platform())
    await state.tools.layers.ready(image)
    return image


def _platform(state: State) -> str:
    text = dict(state.stage.start.flags).get("platform", "")
    if not text:
        return state.tools.request.platform
    try:
        return expand(text, state.stages.arguments, escape=state.scope.escape)
    except ValueError as error:
        raise state.stage.start.wrong(error) from None


async def _take(state: State, one: Instruction) -> None:
    if one.name in CHANGES:
        _change(state, one)
    elif one.name in _STEPS:
        await _STEPS[one.name](state, one)
    else:
        raise one.wrong("unknown instruction")


def _change(state: State, one: Instruction) -> None:
    if one.name != "HEALTHCHECK":
        check_flags(one, frozenset())
    process = changed(state.process, one, state.scope)
    if one.name == "CMD":
        state.has_command = True
    elif one.name == "ENTRYPOINT" and not state.has_command:
        process = replace(process, cmd=())  # the base's was for another program
    state.extend(process, one.text)


async def _arg(state: State, one: Instruction) -> None:
    new = declared(
        one,
        state.scope.variables(state.process),
        state.tools.request.arguments,
        inherited=state.stages.arguments,
        escape=state.scope.escape,
    )
    state.stages.used |= new.keys()
    state.scope.arguments |= {name: value for name, value in new.items() if value is not None}
    words = (name if value is None else f"{name}={value}" for name, value in new.items())
    if not new.keys() & PROXIES:
        state.extend(state.process, f"ARG {' '.join(words)}")


async def _maintainer(state: State, one: Instruction) -> None:
    if not one.args:
        raise one.wrong("a value is missing")
    state.image = state.image._replace(config=replace(state.image.config, author=one.args[0]))
    state.extend(state.process, one.text)


_STEPS: Mapping[str, Callable[[State, Instruction], Awaitable[None]]] = {
    "ADD": copy,
    "ARG": _arg,
    "COPY": copy,
    "MAINTAINER": _maintainer,
    "RUN": run,
    "WORKDIR": workdir,
}
