"""The namespaces of pods, as descriptors of ours; the shim has them too, and so survives us.

One thread makes them, because it has to enter each. It is started for the first pod.
"""

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from orlop.engine.shimlink import Link
from orlop.engine.threads import finished
from orlop.errors import NotFoundError, OrlopError, WrongStateError
from orlop.model.container import Container, ContainerOptions
from orlop.runtime import spaces
from orlop.runtime.spaces import SHM, Wanted
from orlop.shim.channel import close_all

if TYPE_CHECKING:
    from orlop.kernel.netlink.links import Counters

T = TypeVar("T")
_MODE = "pod:"
_OF_PAUSE = ("network", "ipc", "uts")
_MODES = ("network", "ipc", "uts", "pid")


class Joined(NamedTuple):
    """What a container of a pod starts in: namespaces by type, and detached mounts by target."""

    namespaces: Mapping[str, int]
    mounts: Mapping[str, int]


class Spaces:
    """The namespaces of each pod that is ready, by kind."""

    def __init__(self, shim: Callable[[], Link]) -> None:
        self._shim = shim
        self._pods: dict[str, dict[str, int]] = {}
        self._thread: ThreadPoolExecutor | None = None

    def has(self, pod_id: str) -> bool:
        """Whether the pod has its namespaces."""
        return pod_id in self._pods

    async def make(self, pod: Container, sysctls: Mapping[str, str], network: int | None) -> None:
        """Make a pod's namespaces, but for the *network* if it exists. Undone by release()."""
        options = pod.options
        kinds = [kind for kind in ("ipc", "uts") if getattr(options, kind) != "host"]
        if "ipc" in kinds:
            kinds.append("shm")
        if network is None and options.network != "host":
            kinds.append("network")
        wanted = Wanted(kinds, hostname=options.hostname, sysctls=sysctls, network=network)
        made = await self._call(spaces.make, wanted)
        if network is not None:
            made["network"] = os.dup(network)
        self._pods[pod.id] = made
        if options.pid == "pod":
            made |= await self._pause(pod.id)
        await self._hold(pod.id)

    async def _pause(self, pod_id: str) -> dict[str, int]:
        """Have the shim start a process that keeps a pid namespace."""
        inside = {kind: fd for kind, fd in self._pods[pod_id].items() if kind in _OF_PAUSE}
        message = {"op": "pause", "id": pod_id, "names": list(inside)}
        held = await self._shim().request(message, list(inside.values()))
        return dict(zip(held["names"], held["fds"], strict=True))

    async def release(self, pod_id: str) -> None:
        """Let go of them: they last as long as a process is in them. None is no error."""
        self.forget(pod_id)
        await self._shim().request({"op": "let_go", "id": pod_id})

    def forget(self, pod_id: str) -> None:
        """Let no container start in them any more; the shim holds them still."""
        close_all(list(self._pods.pop(pod_id, {}).values()))

    async def take_network(self, pod_id: str) -> int | None:
        """Return a pod's network namespace, even after forget(); the caller closes it."""
        try:
            held = await self._shim().request({"op": "take", "id": pod_id})
        except NotFoundError:
            return None
        opened: dict[str, int] = dict(zip(held["names"], held["fds"], strict=True))
        network = opened.pop("network", None)
        close_all(list(opened.values()))
        return network

    @contextlib.contextmanager
    def open_network(self, pod_id: str) -> Iterator[int]:
        """Give a descriptor of the pod's network namespace; WrongStateError if it has none."""
        namespace = os.dup(self._get(pod_id, "network"))
        try:
            yield namespace
        finally:
            os.close(namespace)

    async def open_socket(self, pod_id: str, family: int) -> socket.socket:
        """Return a TCP socket in the pod's network; WrongStateError if it has none."""
        with self.open_network(pod_id) as namespace:
            return await self._call(spaces.open_socket, namespace, family)

    async def traffic(self, pod_id: str) -> "dict[str, Counters]":
        """Return what went through the pod's interfaces; WrongStateError if it has no network."""
        with self.open_network(pod_id) as namespace:
            return await self._call(spaces.traffic, namespace)

    @contextlib.asynccontextmanager
    async def joined(self, container: Container) -> AsyncIterator[Joined]:
        """Give what the container shares with pods; WrongStateError if one of them is not ready."""
        pods = _pods_of(container.options)
        with contextlib.ExitStack() as opened:
            namespaces = {}
            for kind, pod_id in pods.items():
                namespaces[kind] = os.dup(self._get(pod_id, kind))
                opened.callback(os.close, namespaces[kind])
            mounts = {}
            if "ipc" in pods and all(mount.target != SHM for mount in container.mounts):
                own = os.dup(self._get(pods["ipc"], "shm"))
                opened.callback(os.close, own)
                mounts[SHM] = await self._call(spaces.copy_shm, own)
                opened.callback(os.close, mounts[SHM])
            for kind, pod_id in pods.items():
                self._get(pod_id, kind)  # it may have been stopped meanwhile
            yield Joined(namespaces, mounts)

    async def adopt(self, pod_id: str) -> bool:
        """Take over what an engine before us had the shim hold; False if that is nothing."""
        try:
            held = await self._shim().request({"op": "take", "id": pod_id})
        except NotFoundError:
            return False
        self._pods[pod_id] = dict(zip(held["names"], held["fds"], strict=True))
        return True

    async def held(self) -> list[str]:
        """Return the ids of all pods that the shim holds something for."""
        try:
            ids: list[str] = await self._shim().request({"op": "held"})
        except OrlopError:  # a shim of before there were pods
            return []
        return ids

    async def hold_again(self) -> None:
        """Have a new shim hold what we have."""
        for pod_id in list(self._pods):
            if pod_id in self._pods:
                await self._hold(pod_id)

    def close(self) -> None:
        """Let go of our descriptors; the shim keeps its own."""
        for pod_id in list(self._pods):
            self.forget(pod_id)
        if self._thread is not None:
            self._thread.shutdown(wait=True)

    async def _hold(self, pod_id: str) -> None:
        made = self._pods[pod_id]
        message = {"op": "hold", "id": pod_id, "names": list(made)}
        await self._shim().request(message, list(made.values()))

    def _get(self, pod_id: str, kind: str) -> int:
        try:
            return self._pods[pod_id][kind]
        except KeyError:
            raise WrongStateError(f"pod {pod_id[:12]} is not ready: it has no {kind}") from None

    async def _call(self, function: Callable[..., T], *args: object) -> T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(
                1, thread_name_prefix="pods", initializer=spaces.enter_thread
            )
        work = functools.partial(function, *args)
        return await finished(asyncio.get_running_loop().run_in_executor(self._thread, work))


def _pods_of(options: ContainerOptions) -> dict[str, str]:
    """Return the pods whose namespaces a container joins, by type."""
    modes = {kind: getattr(options, kind) for kind in _MODES}
    return {
        kind: mode.removeprefix(_MODE) for kind, mode in modes.items() if mode.startswith(_MODE)
    }
