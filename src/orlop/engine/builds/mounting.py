"""What the mounts of a RUN are on this host, while the command runs."""

import os
import posixpath
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from orlop.build import graph
from orlop.build.mounts import RunMount
from orlop.build.parse import Instruction
from orlop.engine.builds import files
from orlop.engine.builds.state import State
from orlop.engine.threads import in_thread
from orlop.errors import OrlopError
from orlop.images.build import Draft
from orlop.layers.removal import remove_tree
from orlop.model.container import MountPoint

_EVERYTHING = files.Options()


@asynccontextmanager
async def mounted(
    state: State, one: Instruction, mounts: Sequence[RunMount]
) -> AsyncIterator[Sequence[MountPoint]]:
    """Make ready what *mounts* need; it is gone at the end, but for caches."""
    points: list[MountPoint] = []
    async with AsyncExitStack() as stack:
        own = state.tools.folder / f"mounts-{secrets.token_hex(4)}"
        stack.push_async_callback(in_thread, remove_tree, str(own))
        caches = await _caches(state, mounts, stack)
        for number, mount in enumerate(mounts):
            if mount.kind == "tmpfs":
                size = mount.size_bytes
                points.append(MountPoint(type="tmpfs", target=mount.target, tmpfs_size_bytes=size))
            elif mount.kind == "cache":
                points.append(_bind(mount, caches[mount.id, mount.sharing]))
            elif mount.kind == "bind":
                path = await _files(state, one, mount, own / str(number))
                points.append(_bind(mount, path))
            else:
                secret = _secret(state, one, mount)
                if secret is None:
                    continue
                path = state.tools.secrets_folder / secrets.token_hex(8)
                stack.callback(path.unlink, missing_ok=True)
                await in_thread(_write_secret, path, secret, mount)
                points.append(_bind(mount, path))
        yield points


async def _caches(
    state: State, mounts: Sequence[RunMount], stack: AsyncExitStack
) -> dict[tuple[str, str], Path]:
    """Use the folders of cache mounts, each once and in one order: no two wait for each other."""
    wanted = {(one.id, one.sharing): one for one in mounts if one.kind == "cache"}
    return {
        key: await stack.enter_async_context(state.tools.caches.used(wanted[key]))
        for key in sorted(wanted)
    }


def _bind(mount: RunMount, path: Path) -> MountPoint:
    return MountPoint(type="bind", source=str(path), target=mount.target, read_only=mount.read_only)


def _secret(state: State, one: Instruction, mount: RunMount) -> bytes | None:
    found = state.tools.request.secrets.get(mount.id)
    if found is None and mount.required:
        raise one.wrong(f"the secret {mount.id[:100]!r} was not given")
    return found


def _write_secret(path: Path, secret: bytes, mount: RunMount) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(secret)
        os.fchown(fd, mount.uid, mount.gid)
        os.fchmod(fd, mount.mode)


async def origin_of(state: State, one: Instruction, mount: RunMount) -> Draft | None:
    """Return the stage or image that a bind mount is from; None for the context."""
    if not mount.origin:
        return None
    stage = graph.find_stage(state.stages.file, mount.origin, before=state.stage.number)
    if stage is not None:
        return await state.stages.image_of(stage)
    if mount.origin.isdecimal():
        raise one.wrong(f"from={mount.origin[:100]}: no such stage before this one")
    return await state.stages.pulled(mount.origin, state.tools.request.platform, state.stage)


async def digest_of(state: State, one: Instruction, mount: RunMount) -> str:
    """Return a digest of the files that a bind mount shows."""

    def look(root: int) -> str:
        try:
            source = files.select(root, [mount.source or "/"])
            return files.digest(source, _EVERYTHING, owners=True)
        except OrlopError as error:
            raise one.wrong(error) from error

    image = await origin_of(state, one, mount)
    if image is None:
        return await in_thread(look, state.tools.context)
    return await state.tools.layers.look(image, look)


async def _files(state: State, one: Instruction, mount: RunMount, target: Path) -> Path:
    """Return a copy of the files of a bind mount: the command may not change those of others."""

    def copy(root: int) -> Path:
        target.mkdir(mode=0o755, parents=True)
        fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            source = files.select(root, [mount.source or "/"])
            is_folder = files.is_folder(root, source[0].path)
            files.copy(source, fd, "/" if is_folder else "/file", None, _EVERYTHING)
        except OrlopError as error:
            raise one.wrong(error) from error
        finally:
            os.close(fd)
        return target if is_folder else target / "file"

    image = await origin_of(state, one, mount)
    if image is None:
        return await in_thread(copy, state.tools.context)
    return await state.tools.layers.look(image, copy)


def inputs(mounts: Sequence[RunMount]) -> str:
    """Return what of the mounts' options goes into the key of the step."""
    return repr(
        [mount._replace(source=posixpath.normpath(mount.source or "/")) for mount in mounts]
    )
