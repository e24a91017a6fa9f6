"""What nothing needs any more, found and removed: blobs, layers, interrupted downloads."""

from orlop.engine.context import Context
from orlop.snapshots.interface import LayerKey
from orlop.store import collect


def remove_garbage(context: Context, *, partial: bool = False, dry_run: bool = False) -> int:
    """Collect, and return the bytes that are free now, or would be. Blocking.

    Interrupted downloads stay, for the next pull goes on from them, unless
    *partial*. With *dry_run* nothing is removed.
    """
    driver, layers = context.snapshots, context.metadata.layers
    sizes = {layer.key: layer.size for layer in layers.list() if layer.driver == driver.name}

    def items() -> list[collect.Item]:
        return [collect.Item(key, sizes.get(key, 0)) for key in driver.layers()]

    def remove(key: str) -> None:
        driver.remove_layer(LayerKey(key))
        layers.remove(driver.name, key)

    sweeper = collect.Sweeper(
        "layer", items=items, live=lambda live, key: key in live.layers, remove=remove
    )
    garbage = collect.collect(
        context.content,
        context.metadata,
        sweepers=[sweeper],
        partial=partial or dry_run,
        dry_run=dry_run,
    )
    if not dry_run:
        driver.collect()
        if context.metadata.has_clients:
            context.metadata.clients.forget_gone(context.content.has)
    return garbage.reclaimed_bytes
