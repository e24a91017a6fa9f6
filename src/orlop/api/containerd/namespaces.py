"""The service Namespaces."""

from google.protobuf.empty_pb2 import Empty

from orlop.api.containerd import v1
from orlop.api.containerd.masks import masked_labels
from orlop.engine.engine import Engine
from orlop.model.namespace import Namespace


class NamespaceCalls:
    """Namespaces by name."""

    def __init__(self, engine: Engine) -> None:
        self._namespaces = engine.clients.namespaces

    async def Get(self, request: v1.GetNamespaceRequest) -> v1.GetNamespaceResponse:
        return v1.GetNamespaceResponse(namespace=_shown(self._namespaces.get(request.name)))

    async def List(self, _request: v1.ListNamespacesRequest) -> v1.ListNamespacesResponse:
        """Return all: containerd has no filters here either."""
        return v1.ListNamespacesResponse(
            namespaces=[_shown(one) for one in self._namespaces.list()]
        )

    async def Create(self, request: v1.CreateNamespaceRequest) -> v1.CreateNamespaceResponse:
        asked = request.namespace
        made = self._namespaces.create(asked.name, asked.labels)
        return v1.CreateNamespaceResponse(namespace=_shown(made))

    async def Update(self, request: v1.UpdateNamespaceRequest) -> v1.UpdateNamespaceResponse:
        asked = request.namespace
        before = self._namespaces.get(asked.name)
        labels = masked_labels(before.labels, asked.labels, request.update_mask.paths)
        return v1.UpdateNamespaceResponse(
            namespace=_shown(self._namespaces.relabel(asked.name, labels))
        )

    async def Delete(self, request: v1.DeleteNamespaceRequest) -> Empty:
        self._namespaces.remove(request.name)
        return Empty()


def _shown(namespace: Namespace) -> v1.Namespace:
    return v1.Namespace(name=namespace.name, labels=namespace.labels)
