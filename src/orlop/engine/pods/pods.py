"""Pods: the use cases, in one place to call.

    record (created) -> network -> namespaces, held by the shim -> record (running)

A pod is the record of a container that has no process. What an engine that dies has not
recorded as running, the next one removes.
"""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from orlop.engine.answers import Created
from orlop.engine.containers import names
from orlop.engine.containers.containers import Containers
from orlop.engine.context import Context
from orlop.engine.networks.networks import Networks
from orlop.engine.pods.plugins import NetworkPlugins
from orlop.engine.spec import Given, cgroups_path
from orlop.engine.spec.namespaces import sysctls
from orlop.engine.threads import in_thread
from orlop.errors import (
    InvalidArgumentError,
    NotFoundError,
    OrlopError,
    UnavailableError,
    WrongStateError,
)
from orlop.model.container import Container, ContainerOptions, Step
from orlop.model.image import Process
from orlop.runtime import cgroups
from orlop.runtime.cgroups import Statistics

if TYPE_CHECKING:
    from orlop.kernel.netlink.links import Counters
    from orlop.network.cni.configuration import Configuration

log = logging.getLogger(__name__)

_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_LONGEST_NAME = 64  # of a host, sethostname(2)


class Pods:
    """*ref* is a pod's id, or a start of an id that only one has.

    Every method raises NotFoundError "No such pod: …" where there is none.
    """

    def __init__(self, context: Context, *, containers: Containers, networks: Networks) -> None:
        self._context = context
        self._containers = containers
        self._networks = networks
        self._plugins = NetworkPlugins(context.settings)

    async def network_problem(self) -> str:
        """Return why new pods get no network; "" if they do."""
        try:
            await self._plugins.network()
        except UnavailableError as error:
            return str(error)
        return ""

    def list(self) -> Sequence[Container]:
        """Return the pods, newest first."""
        return sorted(self._context.records.pods(), key=lambda pod: pod.created_ns, reverse=True)

    def get(self, ref: str) -> Container:
        """Return the pod."""
        return self._context.records.find_pod(ref)

    def containers(self, pod_id: str) -> "Sequence[Container]":
        """Return the containers of a pod, whether they run or not."""
        return [one for one in self._context.records.all() if one.options.pod == pod_id]

    async def stats(self, pod_id: str) -> Statistics | None:
        """Return the counters of the cgroup that its containers are in; None if they share none."""
        pod = self.get(pod_id)
        if not pod.options.cgroup_parent or not pod.running:
            return None
        path = cgroups_path(pod.options.cgroup_parent, pod.id)
        try:
            return await in_thread(cgroups.open(path.rpartition("/")[0]).statistics)
        except FileNotFoundError:  # nothing has run in it, or it has been removed
            return None

    async def traffic(self, pod_id: str) -> "Mapping[str, Counters]":
        """Return what went through its interfaces, by their names inside."""
        pod = self.get(pod_id)
        if not pod.plugged:
            return await self._networks.counters(pod)
        with suppress(WrongStateError):  # it is being stopped
            return await self._context.spaces.traffic(pod_id)
        return {}

    async def connect(self, ref: str, port: int) -> socket.socket:
        """Return a connection to a *port* of the pod's loopback interface; the caller closes it.

        UnavailableError if nothing listens there.
        """
        pod = self.get(ref)
        why = ""
        for family, address in _LOOPBACK:
            connection = await self._socket(pod, family)
            try:
                await asyncio.get_running_loop().sock_connect(connection, (address, port))
            except OSError as error:
                connection.close()
                why = why or error.strerror or str(error)
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise UnavailableError(f"pod {pod.name} answers on no port {port}: {why}")

    async def _socket(self, pod: Container, family: int) -> socket.socket:
        if pod.options.network != "host":
            return await self._context.spaces.open_socket(pod.id, family)
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

    def note_request(self, pod_id: str, request: bytes) -> None:
        """Record what its API keeps about it."""
        pod = self.get(pod_id)
        self._context.records.save(replace(pod, options=replace(pod.options, request=request)))

    async def run(self, options: ContainerOptions, *, name: str) -> Container:
        """Make a pod that is ready for containers; nothing is left of one that cannot be."""
        plugged = await self._plugins.network() if options.network == "default" else None
        options = _unplugged(options) if plugged else self._networks.resolve(options)
        pod = Container(
            id=secrets.token_hex(32),
            name=name,
            options=options,
            image="",
            image_name="",
            created_ns=time.time_ns(),
            is_pod=True,
        )
        wanted = _checked(pod)
        records = self._context.records
        records.add(pod)
        async with self._context.live(pod.id).lock:
            try:
                async with self._networks.joined(pod) as (joined, own):
                    await self._context.spaces.make(joined, wanted, own.get("network"))
                    if plugged is not None:
                        joined = await self._plug(joined, plugged)
                    ready = replace(joined, status=pod.moved(Step.START), started_ns=time.time_ns())
                    records.save(ready)  # from here on it is ready
            except BaseException:
                if plugged is not None:
                    await self._drop_plugged(pod.id)
                await self._context.spaces.release(pod.id)
                self._forget(pod.id)
                raise
        self._announce(ready, "create")
        self._announce(ready, "start")
        return ready

    async def create_container(self, ref: str, options: ContainerOptions, *, name: str) -> Created:
        """Make a container in a pod; the *options* for what it shares are the pod's."""
        pod_id = self.get(ref).id
        async with self._context.live(pod_id).lock:
            pod = self.get(pod_id)
            if not self._context.spaces.has(pod_id):
                raise WrongStateError(f"pod {pod.name} is not ready")
            return await self._containers.create(_in_pod(options, pod), name=name)

    async def stop(self, ref: str) -> None:
        """Kill its containers, and let go of its network and namespaces."""
        pod_id = self.get(ref).id
        async with self._context.live(pod_id).lock:
            await self._stop(pod_id)

    async def remove(self, ref: str) -> None:
        """Remove a pod with its containers, after stop()."""
        pod_id = self.get(ref).id
        async with self._context.live(pod_id).lock:
            await self._stop(pod_id)
            await asyncio.gather(*map(self._remove_container, self.containers(pod_id)))
            pod = self.get(pod_id)
            self._forget(pod_id)
        self._announce(pod, "destroy")

    async def _stop(self, pod_id: str) -> None:
        spaces = self._context.spaces
        spaces.forget(pod_id)  # from here on no container starts in it
        await asyncio.gather(*map(self._stop_container, self.containers(pod_id)))
        pod = self.get(pod_id)
        if not pod.running:
            return
        if pod.plugged:
            await self._unplug(pod_id)  # if it fails the pod stays, and can be stopped again
        self._networks.ended(pod)
        await spaces.release(pod_id)
        self._ended(pod)
        self._announce(pod, "die")

    async def _plug(self, pod: Container, network: "Configuration") -> Container:
        with self._context.spaces.open_network(pod.id) as namespace:
            addresses = await self._plugins.attach(pod, network, namespace)
        return replace(pod, plugged=addresses)

    async def _unplug(self, pod_id: str) -> None:
        namespace = await self._context.spaces.take_network(pod_id)
        try:
            await self._plugins.detach(pod_id, namespace)
        finally:
            if namespace is not None:
                os.close(namespace)

    async def _drop_plugged(self, pod_id: str) -> None:
        """Undo what plugins have done for a pod that cannot be; or the next engine does it."""
        try:
            await self._unplug(pod_id)
        except (OrlopError, OSError) as error:
            log.warning("a pod is still on its network", extra={"pod": pod_id, "why": str(error)})

    def _announce(self, pod: Container, action: str) -> None:
        self._context.events.publish("pod", action, id=pod.id, attributes={"name": pod.name})
        log.info("pod event", extra={"action": action, "pod": pod.id})

    def _ended(self, pod: Container) -> None:
        """Record that it is not ready any more."""
        status, now_ns = pod.moved(Step.EXIT), time.time_ns()
        ended = replace(pod, status=status, finished_ns=now_ns, endpoints=(), ports=(), plugged=())
        self._context.records.note(ended)

    async def _stop_container(self, container: Container) -> None:
        with suppress(NotFoundError):
            await self._containers.stop(container.id, timeout_s=0)

    async def _remove_container(self, container: Container) -> None:
        with suppress(NotFoundError):
            await self._containers.remove(container.id, force=True, volumes=True)

    def _forget(self, pod_id: str) -> None:
        self._context.records.remove(pod_id)
        self._context.forget(pod_id)

    async def reconcile(self) -> None:
        """Put right what an engine before us left: run before the networks are."""
        await self._reconcile()
        stale = await self._plugins.stale([pod.id for pod in self._context.records.pods()])
        if stale:
            self._context.spawn(self._plugins.delete(stale))

    async def _reconcile(self) -> None:
        records, spaces = self._context.records, self._context.spaces
        pods = records.pods()
        if not pods:
            return
        held = await spaces.held()
        for pod in pods:
            if not pod.running and not pod.started_ns:  # it was being made
                self._forget(pod.id)
            elif pod.running and (pod.id not in held or not await spaces.adopt(pod.id)):
                self._ended(pod)
        for pod_id in held:
            if not spaces.has(pod_id):
                await spaces.release(pod_id)


def _unplugged(options: ContainerOptions) -> ContainerOptions:
    """Return the options of a pod whose network plugins make, in a namespace with none of ours."""
    return replace(options, network="none", networks={})


def _in_pod(options: ContainerOptions, pod: Container) -> ContainerOptions:
    """Return *options* with what a container has from its pod."""
    shared = f"pod:{pod.id}"
    own = pod.options
    if options.pid == "pod" != own.pid:
        raise InvalidArgumentError(f"pod {pod.name} has no process namespace to share")
    return replace(
        options,
        pod=pod.id,
        network="host" if own.network == "host" else shared,
        ipc="host" if own.ipc == "host" else shared,
        pid=shared if options.pid == "pod" else options.pid,
        uts="host" if own.uts == "host" else shared,
        hostname=own.hostname,
        dns=own.dns,
        dns_search=own.dns_search,
        dns_options=own.dns_options,
        cgroup_parent=own.cgroup_parent,
    )


def _checked(pod: Container) -> dict[str, str]:
    """Return the sysctls of the pod; InvalidArgumentError for what it cannot have."""
    options = pod.options
    names.check_name(pod.name)
    cgroups_path(options.cgroup_parent, pod.id)
    if len(options.hostname.encode()) > _LONGEST_NAME or "\0" in options.hostname:
        raise InvalidArgumentError(
            f"invalid hostname {options.hostname[:80]!r}", hint=f"at most {_LONGEST_NAME} bytes"
        )
    return sysctls(Given(pod.id, options, Process(), options.hostname))
