"""The instructions COPY, ADD and WORKDIR."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from msgspec.structs import replace

from orlop.build import graph
from orlop.build.config import joined
from orlop.build.expand import expand_document
from orlop.build.parse import Instruction
from orlop.engine.builds import files
from orlop.engine.builds.cache import below
from orlop.engine.builds.state import State, check_flags
from orlop.engine.threads import in_thread
from orlop.errors import OrlopError, UnsupportedError
from orlop.images.build import Draft
from orlop.images.pull import Layer

_COPY = frozenset({"from", "chown", "chmod", "link", "parents", "exclude"})
_ADD = frozenset({"chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"})
_REMOTE = ("http://", "https://", "git://", "git@", "ssh://")


class _Wish(NamedTuple):
    """What a COPY or ADD asks for, with its words expanded."""

    sources: tuple[str, ...]
    target: str  # absolute; ends in "/" if it must be a folder
    chown: str
    chmod: str
    options: files.Options
    heredocs: Mapping[str, bytes]  # by file name

    def inputs(self) -> dict[str, str]:
        return {
            "sources": json.dumps(self.sources),
            "target": self.target,
            "owner": f"{self.chown} {self.chmod}",
            "options": repr(self.options),
        }


async def workdir(state: State, one: Instruction) -> None:
    """Change the working directory; one that is missing is made, in a layer."""
    check_flags(one, frozenset())
    path = joined(state.process.working_dir, state.expanded(one, " ".join(one.args)))
    process = replace(state.process, working_dir=path)
    layers = state.tools.layers
    if await layers.look(state.image, lambda root: files.is_folder(root, path)):
        state.extend(process, f"WORKDIR {path}")
        return

    def make(root: int) -> None:
        try:
            files.make_folder(root, path)
        except OSError as error:
            raise one.wrong(f"{path}: {error.strerror}") from error

    made = await state.grown(one, {"path": path}, lambda: layers.change(state.image, make))
    state.extend(process, f"WORKDIR {path}", made)


async def copy(state: State, one: Instruction) -> None:
    """Copy files from the context, another stage or an image; ADD unpacks archives."""
    wish = _wish(state, one)
    name = dict(one.flags).get("from")
    source = None if name is None else await _source(state, one, state.expanded(one, name))
    written = await in_thread(_written, state, one, wish.heredocs)

    def selected(root: int) -> list[files.Source]:
        return [*written, *files.select(root, wish.sources)]

    async def exact() -> Mapping[str, str]:
        def look(root: int) -> str:
            with _placed(one):
                return files.digest(selected(root), wish.options)

        if source is None:
            found = await in_thread(look, state.tools.context)
        else:
            found = await state.tools.layers.look(source, look)
        return {**wish.inputs(), "files": found}

    async def make() -> Layer:
        def change(root: int) -> None:
            with _opened(state, source) as there, _placed(one):
                owner = files.owner_of(root, wish.chown, wish.chmod)
                files.copy(selected(there), root, wish.target, owner, wish.options)

        return await state.tools.layers.change(state.image, change)

    if source is None:
        made = await state.grown(one, await exact(), make)
    else:  # the source's own layers say as much, and are known
        inputs = {**wish.inputs(), "from": below(source)}
        made = await state.grown(one, inputs, make, exact=exact)
    state.extend(state.process, one.text, made)


@contextmanager
def _placed(one: Instruction) -> Iterator[None]:
    """Say where in the file the instruction is that fails within."""
    try:
        yield
    except OrlopError as error:
        raise one.wrong(error) from error


@contextmanager
def _opened(state: State, source: Draft | None) -> Iterator[int]:
    if source is None:
        yield state.tools.context
        return
    with state.tools.layers.root(source, readonly=True) as (_, root):
        yield root


def _wish(state: State, one: Instruction) -> _Wish:
    flags = check_flags(one, _ADD if one.name == "ADD" else _COPY)
    if len(one.args) < 2:
        raise one.wrong("expected at least a source and a destination")
    docs = {f"<<{doc.name}": doc for doc in one.heredocs}
    *sources, target = [state.expanded(one, word) for word in one.args]
    sources = [word for word in sources if word.replace("-", "", 1) not in docs]
    if any(word.startswith(_REMOTE) for word in sources):
        raise UnsupportedError(f"{one.place}: ADD of a URL is not supported", hint="use RUN wget")
    slash = "/" if target.endswith("/") or target in (".", "") else ""
    excluded = [value for name, value in one.flags if name == "exclude"]
    variables = state.scope.variables(state.process)
    texts = {
        doc.name: expand_document(doc.content, variables, escape=state.scope.escape)
        if doc.expands
        else doc.content
        for doc in one.heredocs
    }
    return _Wish(
        sources=tuple(sources),
        target=joined(state.process.working_dir, target).rstrip("/") + slash,
        chown=state.expanded(one, flags.get("chown", "")),
        chmod=state.expanded(one, flags.get("chmod", "")),
        options=files.Options(
            excluded="\n".join(excluded),
            parents=flags.get("parents", "false") == "true",
            unpacks=one.name == "ADD" and flags.get("unpack", "true") == "true",
        ),
        heredocs={name: text.encode() for name, text in texts.items()},
    )


def _written(state: State, one: Instruction, texts: Mapping[str, bytes]) -> list[files.Source]:
    """Write the instruction's heredocs to files, and return those."""
    folder = f"heredocs/{one.place.rpartition(':')[2]}-{state.stage.number}"
    found: list[files.Source] = []
    for name, text in texts.items():
        if "/" in name or name in (".", ".."):
            raise one.wrong(f"a heredoc cannot be named {name[:100]!r}")
        path = state.tools.folder / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        path.chmod(0o644)
        os.utime(path, (0, 0))  # the same text is the same file
        found.append(files.Source(state.tools.own, f"{folder}/{name}", name))
    return found


async def _source(state: State, one: Instruction, name: str) -> Draft:
    """Return the stage or the image that files come from."""
    stage = graph.find_stage(state.stages.file, name, before=state.stage.number)
    if stage is not None:
        return await state.stages.image_of(stage)
    if name.isdecimal() or not name:
        raise one.wrong(f"--from={name[:100]}: no such stage before this one")
    return await state.stages.pulled(name, state.tools.request.platform, state.stage)
