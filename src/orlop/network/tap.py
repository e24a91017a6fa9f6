"""Driver `tap`: a bridge for virtual machines, whose ends are descriptors, and containers."""

import os
from contextlib import ExitStack

from orlop.errors import AlreadyExistsError
from orlop.kernel import tuntap
from orlop.kernel.netlink import links
from orlop.kernel.netlink.links import Settings
from orlop.kernel.tuntap import Layer
from orlop.model.network import Endpoint, Network
from orlop.network import ownership
from orlop.network.bridged import Bridged
from orlop.network.refusal import refusals


class Tap(Bridged):
    """Like `bridge`, with open_tap(), which works for networks of other bridge drivers too."""

    name = "tap"


def open_tap(
    driver: Bridged, network: Network, endpoint: Endpoint, *, vnet_header: bool = False
) -> int:
    """Return the descriptor of a tap device on the network's bridge: a machine's network card.

    Frames are read from and written to it, after a virtio_net header if *vnet_header*. The
    device's name is endpoint.host_interface; it disappears with the descriptor. The machine
    has to use endpoint.mac and the addresses; nothing is set up here.
    """
    name = ownership.veth_name(endpoint)
    with refusals(f"make tap device {name}", lacking="tun"), ExitStack() as undo:
        plug = driver.plug(network)
        try:
            fd = tuntap.make(name, Layer.FRAMES, vnet_header=vnet_header)
        except OSError as error:
            if links.find(driver.home.netlink, name) is None:
                raise
            raise AlreadyExistsError(f"the host has a network interface {name} already") from error
        undo.callback(os.close, fd)
        alias = ownership.alias(driver.engine, endpoint.container)
        settings = Settings(mtu=endpoint.mtu or plug.mtu, master=plug.bridge, alias=alias)
        requests = [links.change(name, settings)]
        if any(value is not None for value in plug.port):
            requests.append(links.change_port(name, plug.port))
        driver.home.netlink.ask(*requests)
        driver.home.silence(name)
        up = links.change(name, Settings(up=True))
        driver.home.netlink.ask(up, links.look(name), links.look(plug.bridge))
        if endpoint.bandwidth.ingress_bps or endpoint.bandwidth.egress_bps:
            driver.limit(network, endpoint)
        undo.pop_all()
    return fd
