"""Orlop: a container engine in Python.

    with orlop.Sandbox(image="host", memory="256m") as box:
        print(box.run(["uname", "-s"]).stdout)

The names below are imported when they are first used: every command imports this module.
"""

__version__ = "0.1.0"
__all__ = [
    "AsyncBatch",
    "AsyncFiles",
    "AsyncPool",
    "AsyncProcess",
    "AsyncRunner",
    "AsyncSandbox",
    "AsyncTemplate",
    "AsyncTerminal",
    "Batch",
    "Files",
    "Pool",
    "PoolStats",
    "Process",
    "Result",
    "Runner",
    "Sandbox",
    "Step",
    "Template",
    "Terminal",
    "Timeline",
    "Usage",
    "errors",
]

_PLACES = {
    "AsyncBatch": "orlop.sandbox.asynchronous",
    "AsyncFiles": "orlop.sandbox.asynchronous",
    "AsyncPool": "orlop.sandbox.asynchronous",
    "AsyncProcess": "orlop.sandbox.asynchronous",
    "AsyncRunner": "orlop.sandbox.asynchronous",
    "AsyncSandbox": "orlop.sandbox.asynchronous",
    "AsyncTemplate": "orlop.sandbox.asynchronous",
    "AsyncTerminal": "orlop.sandbox.asynchronous",
    "Batch": "orlop.sandbox.batch",
    "Files": "orlop.sandbox.files",
    "Pool": "orlop.sandbox.pool",
    "PoolStats": "orlop.sandbox.warm",
    "Process": "orlop.sandbox.process",
    "Result": "orlop.sandbox.result",
    "Runner": "orlop.sandbox.runner",
    "Sandbox": "orlop.sandbox.sandbox",
    "Step": "orlop.model.timeline",
    "Template": "orlop.sandbox.template",
    "Terminal": "orlop.sandbox.process",
    "Timeline": "orlop.sandbox.timeline",
    "Usage": "orlop.sandbox.result",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'orlop' has no attribute {name!r}")
    from importlib import import_module

    if name == "errors":
        return import_module("orlop.errors")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
