"""Orlop: a container engine in Python.

    with orlop.Sandbox(image="host", memory="256m") as box:
        print(box.run(["uname", "-s"]).stdout)

The names below are imported when they are first used: every command imports this module.
"""

__version__ = "0.1.0"
__all__ = [
    "AsyncPool",
    "AsyncProcess",
    "AsyncRunner",
    "AsyncSandbox",
    "AsyncTemplate",
    "AsyncTerminal",
    "Batch",
    "Pool",
    "PoolStats",
    "Process",
    "Result",
    "Runner",
    "Sandbox",
    "Template",
    "Terminal",
    "Usage",
    "errors",
]

_PLACES = {
    "AsyncPool": "orlop.sandbox.async_pool",
    "AsyncProcess": "orlop.sandbox.async_process",
    "AsyncRunner": "orlop.sandbox.async_runner",
    "AsyncSandbox": "orlop.sandbox.asynchronous",
    "AsyncTemplate": "orlop.sandbox.async_template",
    "AsyncTerminal": "orlop.sandbox.async_process",
    "Batch": "orlop.sandbox.batch",
    "Pool": "orlop.sandbox.pool",
    "PoolStats": "orlop.sandbox.warm",
    "Process": "orlop.sandbox.process",
    "Result": "orlop.sandbox.result",
    "Runner": "orlop.sandbox.runner",
    "Sandbox": "orlop.sandbox.sandbox",
    "Template": "orlop.sandbox.template",
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
