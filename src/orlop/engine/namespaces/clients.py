"""The use cases of containerd's clients, one object. Loaded for the first client."""

from orlop.engine.context import Context
from orlop.engine.images.images import Images
from orlop.engine.namespaces.contents import Contents
from orlop.engine.namespaces.leases import ClientLeases
from orlop.engine.namespaces.names import ImageNames
from orlop.engine.namespaces.namespaces import Namespaces


class Clients:
    """What can be asked for by namespace."""

    def __init__(self, context: Context, *, images: Images) -> None:
        self.namespaces = Namespaces(context)
        self.leases = ClientLeases(context, self.namespaces)
        self.contents = Contents(context, self.namespaces, self.leases)
        self.images = ImageNames(context, images)
