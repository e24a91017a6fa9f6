"""Driver `bridge`: one layer-2 network within this host, the default network among them."""

from orlop.network.bridged import Bridged


class Bridge(Bridged):
    """Containers on a bridge; the bridge has the gateways' addresses."""

    name = "bridge"
