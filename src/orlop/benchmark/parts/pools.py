"""Warm sandboxes that are handed out."""

from orlop.benchmark.parts.bench import Bench


def measure(bench: Bench) -> None:
    bench.left_out("this build has no pools of warm sandboxes")
