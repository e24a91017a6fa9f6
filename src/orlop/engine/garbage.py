"""What nothing needs any more, found and removed: blobs, layers, interrupted downloads."""

from orlop.engine.context import Context
from orlop.snapshots.interface import LayerKey, Snapshots
from orlop.store import collect


def remove_garbage(context: Context, *, partial: bool = False, dry_run: bool = False) -> int:
    """Collect, and return the bytes that are free now, or would be. Blocking.

    Interrupted downloads stay, for the next pull goes on from them, unless
    *partial*. With *dry_run* nothing is removed.
    """
    reclaimed = _collect(context, partial=partial, dry_run=dry_run)
    if not dry_run and context.metadata.has_clients and _forget(context):
        reclaimed += _collect(context, partial=partial, dry_run=False)
    return reclaimed


def _collect(context: Context, *, partial: bool, dry_run: bool) -> int:
    drivers = context.drivers()
    garbage = collect.collect(
        context.content,
        context.metadata,
        sweepers=[_sweeper(context, driver) for driver in drivers],
        partial=partial or dry_run,
        dry_run=dry_run,
    )
    if not dry_run:
        for driver in drivers:
            driver.collect()
    return garbage.reclaimed_bytes


def _sweeper(context: Context, driver: Snapshots) -> collect.Sweeper:
    layers = context.metadata.layers
    sizes = {layer.key: layer.size for layer in layers.list() if layer.driver == driver.name}

    def items() -> list[collect.Item]:
        return [collect.Item(key, sizes.get(key, 0)) for key in driver.layers()]

    def remove(key: str) -> None:
        driver.remove_layer(LayerKey(key))
        layers.remove(driver.name, key)

    return collect.Sweeper(
        "layer", items=items, live=lambda live, key: key in live.layers, remove=remove
    )


def _forget(context: Context) -> bool:
    """Forget what containerd's clients keep of what is gone; return whether layers became free."""
    clients = context.metadata.clients
    clients.forget_gone(context.content.has)
    with context.metadata.leases.closed():
        unneeded = clients.unneeded_snapshots()
        for one in unneeded:
            clients.snapshots.remove(one.namespace, one.key)
    for one in unneeded:
        if one.value.name:
            context.clients_driver.remove(one.value.name)
    return bool(unneeded)
