"""The engine's operations for other processes.

    with Client(settings()) as client:
        identifier = client.containers.create({"Image": "alpine"})["Id"]

Values are those of the Docker Engine API, as JSON; errors are the classes of orlop.errors with
the engine's message.
"""

from __future__ import annotations

from orlop.client.calls import Caller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.client.builds import Builds
    from orlop.client.containers import Containers
    from orlop.client.execs import Execs
    from orlop.client.images import Images
    from orlop.client.networks import Networks
    from orlop.client.sandboxes import Sandboxes
    from orlop.client.system import System
    from orlop.client.templates import Templates
    from orlop.client.volumes import Volumes


class Client(Caller):
    """The operations, grouped by object; each group is imported when first used."""

    @property
    def containers(self) -> Containers:
        from orlop.client.containers import Containers

        return Containers(self)

    @property
    def execs(self) -> Execs:
        from orlop.client.execs import Execs

        return Execs(self)

    @property
    def builds(self) -> Builds:
        from orlop.client.builds import Builds

        return Builds(self)

    @property
    def images(self) -> Images:
        from orlop.client.images import Images

        return Images(self)

    @property
    def volumes(self) -> Volumes:
        from orlop.client.volumes import Volumes

        return Volumes(self)

    @property
    def networks(self) -> Networks:
        from orlop.client.networks import Networks

        return Networks(self)

    @property
    def sandboxes(self) -> Sandboxes:
        from orlop.client.sandboxes import Sandboxes

        return Sandboxes(self)

    @property
    def templates(self) -> Templates:
        from orlop.client.templates import Templates

        return Templates(self)

    @property
    def system(self) -> System:
        from orlop.client.system import System

        return System(self)
