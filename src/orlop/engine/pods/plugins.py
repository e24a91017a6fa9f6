"""Networks of pods that CNI plugins make, if the host has a configuration for them.

    ADD after the pod's namespace is made, DEL before it goes; what an engine that died has left is
    deleted by the next one

Plugins see the namespace as a descriptor of ours: /proc/PID/fd/N.
"""

import logging
import os
from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING

from orlop.engine.settings import Settings
from orlop.engine.threads import in_thread
from orlop.errors import OrlopError, UnavailableError
from orlop.model.container import Container
from orlop.model.network import PortMapping

if TYPE_CHECKING:
    from orlop.network.cni.cache import Key
    from orlop.network.cni.configuration import Configuration
    from orlop.network.cni.runtime import Cni

log = logging.getLogger(__name__)

_TIMEOUT_S = 30.0  # of each plugin


class NetworkPlugins:
    """The first network in the folder of configurations, for pods."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.root / "cni"

    @cached_property
    def _cni(self) -> "Cni":
        from orlop.network.cni.runtime import Cni

        return Cni(self._folder, self._settings.cni_plugins, timeout_s=_TIMEOUT_S)

    async def network(self) -> "Configuration | None":
        """Return the network that new pods get; None if there is no configuration.

        UnavailableError if there are only wrong ones.
        """
        from orlop.network.cni.configuration import load  # for who has pods

        folder = self._settings.cni_configurations
        if folder is None:
            return None
        loaded = await in_thread(load, folder)
        if not loaded.networks and loaded.problems:
            raise UnavailableError(
                f"{folder} has no network that can be used", hint="; ".join(loaded.problems)
            )
        return next(iter(loaded.networks.values()), None)

    async def attach(
        self, pod: Container, network: "Configuration", namespace: int
    ) -> tuple[str, ...]:
        """Connect a pod's *namespace*; return its addresses. A failure leaves nothing."""
        from orlop.network.cni.capabilities import Names, Wishes, arguments
        from orlop.network.cni.runtime import Attachment

        options = pod.options
        wishes = Wishes(
            ports=_ports(pod),
            bandwidth=options.bandwidth,
            names=Names(options.dns, options.dns_search, options.dns_options),
            cgroup=options.cgroup_parent,
        )
        attachment = Attachment(
            pod.id,
            _path(namespace),
            arguments={**options.plugin_arguments, "K8S_POD_INFRA_CONTAINER_ID": pod.id},
            capabilities=arguments(wishes),
        )
        made = await in_thread(self._cni.add, network, attachment)
        log.info("pod attached", extra={"pod": pod.id, "network": network.name})
        return tuple(one.address for one in made.ips if _is_inside(made.interfaces, one.interface))

    async def detach(self, pod_id: str, namespace: int | None) -> None:
        """Undo attach(); no error if there is nothing. *namespace* is None if it has gone."""
        for key in await self._attachments():
            if key.container == pod_id:
                path = "" if namespace is None else _path(namespace)
                await in_thread(self._cni.delete, key, namespace=path)

    async def stale(self, ready: Collection[str]) -> "list[Key]":
        """Return the attachments of pods that are not *ready*."""
        return [key for key in await self._attachments() if key.container not in ready]

    async def delete(self, keys: "Collection[Key]") -> None:
        """Delete attachments whose namespaces have gone; what cannot be is tried the next time."""
        for key in keys:
            try:
                await in_thread(self._cni.delete, key)
            except (OrlopError, OSError) as error:
                why = {"pod": key.container, "network": key.network, "why": str(error)}
                log.warning("what a pod has left on a network cannot be deleted", extra=why)

    async def _attachments(self) -> "list[Key]":
        if not self._folder.exists():
            return []
        return await in_thread(self._cni.attachments)


def _path(namespace: int) -> str:
    return f"/proc/{os.getpid()}/fd/{namespace}"


def _is_inside(interfaces: object, index: int | None) -> bool:
    """Whether an address is of an interface inside the namespace, as far as the result says."""
    if index is None or not isinstance(interfaces, (list, tuple)) or index >= len(interfaces):
        return True
    return bool(interfaces[index].sandbox)


def _ports(pod: Container) -> list[PortMapping]:
    found = []
    for port, bindings in pod.options.port_bindings.items():
        number, _, protocol = port.partition("/")
        for host_ip, host_port in bindings:
            found.append(
                PortMapping(
                    protocol=protocol,  # type: ignore[arg-type]
                    container_port=int(number),
                    host_port=int(host_port),
                    host_ip=host_ip,
                )
            )
    return found
