"""The use cases of containerd's clients, one object. Loaded for the first client."""

from orlop.engine.containers.containers import Containers
from orlop.engine.context import Context
from orlop.engine.execs.execs import Execs
from orlop.engine.images.images import Images
from orlop.engine.namespaces.containers import ClientContainers
from orlop.engine.namespaces.contents import Contents
from orlop.engine.namespaces.events import ClientEvents
from orlop.engine.namespaces.leases import ClientLeases
from orlop.engine.namespaces.names import ImageNames
from orlop.engine.namespaces.namespaces import Namespaces
from orlop.engine.namespaces.snapshots import ClientSnapshots
from orlop.engine.namespaces.tasks import Tasks
from orlop.engine.namespaces.transfers import Transfers


class Clients:
    """What can be asked for by namespace."""

    def __init__(
        self, context: Context, *, images: Images, containers: Containers, execs: Execs
    ) -> None:
        self.events = ClientEvents(context)
        self.namespaces = Namespaces(context, self.events)
        self.leases = ClientLeases(context, self.namespaces)
        self.contents = Contents(context, self.namespaces, self.leases, self.events)
        self.images = ImageNames(context, images, self.events)
        self.snapshots = ClientSnapshots(
            context, self.namespaces, self.leases, images=images, events=self.events
        )
        self.containers = ClientContainers(context, self.namespaces, self.events)
        self.transfers = Transfers(
            context,
            images=images,
            names=self.images,
            contents=self.contents,
            snapshots=self.snapshots,
        )
        self.tasks = Tasks(
            context,
            containers=containers,
            execs=execs,
            images=self.images,
            snapshots=self.snapshots,
            events=self.events,
        )
