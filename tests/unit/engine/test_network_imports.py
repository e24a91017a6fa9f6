"""An engine whose containers need no network does not pay for any."""

from tests.imports import modules_after

_HEAVY = ("orlop.network", "orlop.kernel.netlink", "orlop.kernel.nftables", "orlop.engine.names.")


def test_the_engine_starts_without_what_makes_networks() -> None:
    loaded = modules_after("import orlop.engine.engine, orlop.programs.serving")
    assert not [name for name in loaded if name.startswith(_HEAVY)]
    assert "orlop.engine.networks.desk" not in loaded


def test_the_shim_knows_nothing_of_networks() -> None:
    loaded = modules_after("import orlop.shim.main, orlop.shim.server")
    assert not [name for name in loaded if name.startswith(_HEAVY)]
