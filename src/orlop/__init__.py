"""Orlop: a container engine in Python.

    with orlop.Sandbox(image="host", memory="256m") as box:
        print(box.run(["uname", "-s"]).stdout)

The names below are imported when they are first used: every command imports this module.
"""

__version__ = "0.1.0"
__all__ = [
    "AsyncPool",
    "AsyncProcess",
    "AsyncSandbox",
    "AsyncTerminal",
    "Process",
    "Pool",
    "PoolStats",
    "Result",
    "Sandbox",
    "Terminal",
    "Usage",
    "errors",
]

_PLACES = {
    "AsyncProcess": "orlop.sandbox.async_process",
    "AsyncSandbox": "orlop.sandbox.asynchronous",
    "AsyncPool": "orlop.sandbox.async_pool",
    "AsyncTerminal": "orlop.sandbox.async_process",
    "Process": "orlop.sandbox.process",
    "Result": "orlop.sandbox.result",
    "Sandbox": "orlop.sandbox.sandbox",
    "Pool": "orlop.sandbox.pool",
    "PoolStats": "orlop.sandbox.warm",
    "Terminal": "orlop.sandbox.terminal",
    "Usage": "orlop.sandbox.result",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'orlop' has no attribute {name!r}")
    from importlib import import_module

    if name == "errors":
        return import_module("orlop.errors")
    return getattr(import_module(_PLACES[name]), name)
