"""Driver `bridge`: one layer-2 network within this host, such as the default network."""

from orlop.network.bridged import Bridged


class Bridge(Bridged):
    """Containers on a bridge, which has the gateways' addresses."""

    name = "bridge"
