"""One stage of a build: its instructions, one after the other, on an image in memory."""

from collections.abc import Awaitable, Callable, Mapping

from msgspec.structs import replace

from orlop.build import graph
from orlop.build.arguments import PROXIES, declared
from orlop.build.config import CHANGES, Scope, changed, joined
from orlop.build.expand import expand
from orlop.build.parse import Instruction, Stage, parse_trigger
from orlop.engine.builds import files
from orlop.engine.builds.request import BuildEvent
from orlop.engine.builds.run import run
from orlop.engine.builds.stages import Stages
from orlop.errors import CommandFailedError, UnsupportedError
from orlop.images.build import Draft, draft
from orlop.images.pull import Layer
from orlop.model.container import Container, ContainerOptions, Health
from orlop.model.image import History, Process
from orlop.model.platform import host_platform, parse_platform

_DEFAULT_SHELL = ("/bin/sh", "-c")
_RUN_FLAGS = frozenset({"network", "security"})
_COPY_FLAGS = frozenset({"from", "chown", "chmod"})


async def run_stage(stages: Stages, stage: Stage) -> Draft:
    """Solve one stage and return its image."""
    told = stages.told
    try:
        image = await StageRun(stages, stage).run()
    except Exception:
        await told.fail(stage.number)
        raise
    await told.finish(stage.number)
    return image


class StageRun:
    def __init__(self, stages: Stages, stage: Stage) -> None:
        self._stages = stages
        self._tools = stages.tools
        self._stage = stage
        self._scope = Scope({}, stages.file.escape)
        self._image: Draft
        self._has_command = False  # whether this stage has set CMD
        self._steps: Mapping[str, Callable[[Instruction], Awaitable[None]]] = {
            "ADD": self._copy,
            "ARG": self._arg,
            "COPY": self._copy,
            "MAINTAINER": self._maintainer,
            "RUN": self._run,
            "WORKDIR": self._workdir,
        }

    async def run(self) -> Draft:
        """Return the stage's image."""
        await self._tell_step(self._stage.start)
        self._image = await self._base()
        triggers = self._image.config.config.on_build
        if triggers:
            self._set(replace(self._process, on_build=()))
        for number, text in enumerate(triggers, 1):
            await self._take(parse_trigger(text, f"{self._stage.start.place} ONBUILD {number}"))
        for one in self._stage.steps:
            await self._tell_step(one)
            await self._take(one)
        return self._image

    @property
    def _process(self) -> Process:
        return self._image.config.config

    def _set(self, process: Process) -> None:
        config = replace(self._image.config, config=process)
        self._image = self._image._replace(config=config)

    async def _tell_step(self, one: Instruction) -> None:
        name = self._stage.name or str(self._stage.number)
        await self._tell(BuildEvent(kind="step", stage=name, text=one.text))

    async def _tell(self, event: BuildEvent) -> None:
        await self._stages.told.tell(self._stage.number, event)

    async def _base(self) -> Draft:
        start, file = self._stage.start, self._stages.file
        _check_flags(start, frozenset({"platform"}))
        name = graph.base_name(self._stage, self._stages.arguments, file.escape)
        platform = self._platform()
        stage = graph.base_stage(file, self._stage, name)
        if stage is not None:
            return await self._stages.image_of(stage)
        if name == "scratch":
            image = draft(parse_platform(platform) if platform else host_platform())
            await self._tools.layers.ready(image)
            return image
        return await self._stages.pulled(name, platform, self._stage)

    def _platform(self) -> str:
        text = dict(self._stage.start.flags).get("platform", "")
        if not text:
            return self._tools.request.platform
        try:
            return expand(text, self._stages.arguments, escape=self._scope.escape)
        except ValueError as error:
            raise self._stage.start.wrong(error) from None

    async def _take(self, one: Instruction) -> None:
        if one.name in CHANGES:
            self._change(one)
        elif one.name in self._steps:
            await self._steps[one.name](one)
        else:
            raise one.wrong("unknown instruction")

    def _change(self, one: Instruction) -> None:
        _check_flags(one, None if one.name == "HEALTHCHECK" else frozenset())
        process = changed(self._process, one, self._scope)
        if one.name == "CMD":
            self._has_command = True
        elif one.name == "ENTRYPOINT" and not self._has_command:
            process = replace(process, cmd=())  # the base's was for another program
        self._extend(process, one.text)

    def _extend(self, process: Process, by: str, layer: Layer | None = None) -> None:
        step = History(created=self._tools.created, created_by=" ".join(by.split()))
        self._image = self._image.extended(process, step, layer)

    async def _arg(self, one: Instruction) -> None:
        new = declared(
            one,
            self._scope.variables(self._process),
            self._tools.request.arguments,
            inherited=self._stages.arguments,
            escape=self._scope.escape,
        )
        self._stages.used |= new.keys()
        self._scope.arguments |= {name: value for name, value in new.items() if value is not None}
        words = (name if value is None else f"{name}={value}" for name, value in new.items())
        if not new.keys() & PROXIES:
            self._extend(self._process, f"ARG {' '.join(words)}")

    async def _maintainer(self, one: Instruction) -> None:
        if not one.args:
            raise one.wrong("a value is missing")
        self._extend(self._process, one.text)
        config = replace(self._image.config, author=one.args[0])
        self._image = self._image._replace(config=config)

    async def _workdir(self, one: Instruction) -> None:
        _check_flags(one, frozenset())
        path = joined(self._process.working_dir, self._expanded(one, " ".join(one.args)))
        process = replace(self._process, working_dir=path)
        layers = self._tools.layers
        if await layers.look(self._image, lambda root: files.is_folder(root, path)):
            self._extend(process, f"WORKDIR {path}")
            return

        def make(root: int) -> None:
            try:
                files.make_folder(root, path)
            except OSError as error:
                raise one.wrong(f"{path}: {error.strerror}") from error

        await self._grow(process, f"WORKDIR {path}", await layers.change(self._image, make))

    async def _grow(self, process: Process, by: str, layer: Layer) -> None:
        self._extend(process, by, layer)
        await self._tools.layers.ready(self._image)

    async def _copy(self, one: Instruction) -> None:
        flags = _check_flags(one, _COPY_FLAGS)
        if one.heredocs:
            raise UnsupportedError(f"{one.place}: a heredoc of {one.name} is not supported yet")
        if one.name == "ADD":
            raise UnsupportedError(f"{one.place}: ADD is not supported yet", hint="use COPY")
        if len(one.args) < 2:
            raise one.wrong("expected at least a source and a destination")
        *sources, target = [self._expanded(one, word) for word in one.args]
        owner_text, mode = (self._expanded(one, flags.get(f, "")) for f in ("chown", "chmod"))
        slash = "/" if target.endswith("/") or target in (".", "") else ""
        target = joined(self._process.working_dir, target).rstrip("/") + slash

        def put(source: int) -> Callable[[int], None]:
            def into(root: int) -> None:
                owner = files.owner_of(root, owner_text, mode)
                files.copy(files.select(source, sources), root, target, owner)

            return into

        if "from" in flags:
            layer = await self._copied_from(one, flags["from"], put)
        else:
            layer = await self._tools.layers.change(self._image, put(self._tools.context))
        await self._grow(self._process, one.text, layer)

    async def _copied_from(
        self, one: Instruction, name: str, put: Callable[[int], Callable[[int], None]]
    ) -> Layer:
        raise UnsupportedError(f"{one.place}: --from is not supported yet")

    async def _run(self, one: Instruction) -> None:
        flags = _check_flags(one, _RUN_FLAGS)
        command = self._command(one)
        arguments = self._run_arguments()
        request = self._tools.request
        options = ContainerOptions(
            entrypoint=(),
            command=command,
            environment=tuple(f"{name}={value}" for name, value in arguments.items()),
            health=Health(test=("NONE",)),
            network=_network(one, flags.get("network", ""), request.network),
            resources=request.resources,
            shm_size_bytes=request.shm_size_bytes,
            extra_hosts=request.extra_hosts,
            cgroup_parent=request.cgroup_parent,
        )
        layers: list[Layer] = []

        async def then(container: Container) -> None:
            layers.append(await self._tools.layers.of_container(container))

        async def hear(data: bytes) -> None:
            await self._tell(BuildEvent(kind="output", data=data))

        status = await run(self._tools.containers, self._image, options, hear, then=then)
        if status != 0:
            raise CommandFailedError(
                f"{one.place}: the command '{' '.join(command)[:1000]}' returned a non-zero code:"
                f" {status}",
                code=status,
            )
        shown = {name: value for name, value in arguments.items() if name not in PROXIES}
        prefix = [f"|{len(shown)}", *(f"{n}={v}" for n, v in shown.items())] if shown else []
        by = " ".join(["RUN", *prefix, *command])
        await self._grow(self._process, by, layers[0])

    def _command(self, one: Instruction) -> tuple[str, ...]:
        if one.is_json:
            if not one.args:
                raise one.wrong("a command is missing")
            return one.args
        text = one.args[0] if one.args else ""
        if not text.strip():
            raise one.wrong("a command is missing")
        for doc in one.heredocs:
            text += f"\n{doc.content}{doc.name}"
        return (*(self._process.shell or _DEFAULT_SHELL), text)

    def _run_arguments(self) -> dict[str, str]:
        """Return the variables of a RUN besides the image's: ARGs, and the client's proxies."""
        given = self._tools.request.arguments
        proxies = {name: value for name, value in given.items() if name in PROXIES}
        named = {entry.partition("=")[0] for entry in self._process.env}
        every = {**proxies, **self._scope.arguments}
        return {name: value for name, value in every.items() if name not in named}

    def _expanded(self, one: Instruction, text: str) -> str:
        try:
            return self._scope.expander(self._process)(text)
        except ValueError as error:
            raise one.wrong(error) from None


def _check_flags(one: Instruction, known: frozenset[str] | None) -> dict[str, str]:
    """Return the flags by name. InvalidArgumentError for one that is not in *known*."""
    for name, _ in one.flags:
        if known is not None and name not in known:
            raise one.wrong(f"unknown flag: --{name}")
    return dict(one.flags)


def _network(one: Instruction, flag: str, asked: str) -> str:
    if flag not in ("", "default", "none", "host"):
        raise one.wrong(f"--network={flag[:50]}: expected default, none or host")
    if flag == "host" and asked != "host":
        raise one.wrong("--network=host needs a build with --network=host")
    return asked if flag in ("", "default") else flag
