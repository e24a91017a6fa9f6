"""Metrics of pods and containers, under the names that cAdvisor gave them.

The kubelet passes them on to Prometheus, so that no program beside the runtime has to read
the cgroups. A value is a whole number: seconds are rounded down.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from orlop.api.cri import render_stats, v1
from orlop.api.cri.render_stats import number
from orlop.kernel.netlink.links import Counters
from orlop.model.container import Container
from orlop.runtime.cgroups import Statistics

_LABELS = ("id", "name", "image")
_SECOND = 10**9


class _Figure(NamedTuple):
    name: str
    help: str
    read: Callable[[Statistics], int]
    kind: v1.MetricType = v1.GAUGE


class _Traffic(NamedTuple):
    name: str
    help: str
    read: Callable[[Counters], int]


def _io(counted: Statistics, operation: str) -> int:
    return sum(one.value for one in counted.io_bytes if one.operation == operation)


_FIGURES = (
    _Figure(
        "container_cpu_usage_seconds_total",
        "Processor time used.",
        lambda counted: counted.cpu.usage_ns // _SECOND,
        v1.COUNTER,
    ),
    _Figure(
        "container_cpu_user_seconds_total",
        "Processor time used outside the kernel.",
        lambda counted: counted.cpu.user_ns // _SECOND,
        v1.COUNTER,
    ),
    _Figure(
        "container_cpu_system_seconds_total",
        "Processor time used inside the kernel.",
        lambda counted: counted.cpu.system_ns // _SECOND,
        v1.COUNTER,
    ),
    _Figure(
        "container_cpu_cfs_periods_total",
        "Periods of the quota that have passed.",
        lambda counted: counted.cpu.periods,
        v1.COUNTER,
    ),
    _Figure(
        "container_cpu_cfs_throttled_periods_total",
        "Periods in which the quota was used up.",
        lambda counted: counted.cpu.throttled_periods,
        v1.COUNTER,
    ),
    _Figure(
        "container_cpu_cfs_throttled_seconds_total",
        "Time spent waiting for the next period.",
        lambda counted: counted.cpu.throttled_ns // _SECOND,
        v1.COUNTER,
    ),
    _Figure(
        "container_memory_usage_bytes",
        "Memory in use, with the page cache.",
        lambda counted: counted.memory.usage_bytes,
    ),
    _Figure(
        "container_memory_working_set_bytes",
        "Memory in use that cannot be reclaimed at once.",
        lambda counted: render_stats.working_set(counted.memory),
    ),
    _Figure(
        "container_memory_rss",
        "Memory in use that no file is behind.",
        lambda counted: render_stats.resident(counted.memory),
    ),
    _Figure(
        "container_memory_max_usage_bytes",
        "The most memory that was in use.",
        lambda counted: counted.memory.peak_bytes,
    ),
    _Figure(
        "container_memory_swap",
        "Swap in use, in bytes.",
        lambda counted: counted.memory.swap_bytes,
    ),
    _Figure(
        "container_memory_failcnt",
        "How often the limit of memory was reached.",
        lambda counted: counted.memory.failures,
        v1.COUNTER,
    ),
    _Figure(
        "container_spec_memory_limit_bytes",
        "The limit of memory; 0 is none.",
        lambda counted: counted.memory.limit_bytes or 0,
    ),
    _Figure(
        "container_processes",
        "Processes and threads.",
        lambda counted: counted.pids.current,
    ),
    _Figure(
        "container_fs_reads_bytes_total",
        "Bytes read from disks.",
        lambda counted: _io(counted, "read"),
        v1.COUNTER,
    ),
    _Figure(
        "container_fs_writes_bytes_total",
        "Bytes written to disks.",
        lambda counted: _io(counted, "write"),
        v1.COUNTER,
    ),
)

_TRAFFIC = (
    _Traffic("container_network_receive_bytes_total", "Bytes received.", lambda one: one.rx_bytes),
    _Traffic("container_network_transmit_bytes_total", "Bytes sent.", lambda one: one.tx_bytes),
    _Traffic(
        "container_network_receive_packets_total", "Packets received.", lambda one: one.rx_packets
    ),
    _Traffic(
        "container_network_transmit_packets_total", "Packets sent.", lambda one: one.tx_packets
    ),
    _Traffic(
        "container_network_receive_errors_total",
        "Errors while receiving.",
        lambda one: one.rx_errors,
    ),
    _Traffic(
        "container_network_transmit_errors_total",
        "Errors while sending.",
        lambda one: one.tx_errors,
    ),
    _Traffic(
        "container_network_receive_packets_dropped_total",
        "Packets dropped while receiving.",
        lambda one: one.rx_dropped,
    ),
    _Traffic(
        "container_network_transmit_packets_dropped_total",
        "Packets dropped while sending.",
        lambda one: one.tx_dropped,
    ),
)


def descriptors() -> Iterator[v1.MetricDescriptor]:
    """Yield what there is."""
    for figure in _FIGURES:
        yield v1.MetricDescriptor(name=figure.name, help=figure.help, label_keys=_LABELS)
    for traffic in _TRAFFIC:
        labels = (*_LABELS, "interface")
        yield v1.MetricDescriptor(name=traffic.name, help=traffic.help, label_keys=labels)


def of_container(container: Container, counted: Statistics) -> Iterator[v1.Metric]:
    """Yield a container's metrics."""
    return _figures((container.id, container.name, container.image_name), counted)


def of_pod(
    pod: Container, counted: Statistics | None, traffic: Mapping[str, Counters]
) -> Iterator[v1.Metric]:
    """Yield a pod's metrics; without *counted* only those of its *traffic*, by interface."""
    labels = (pod.id, pod.name, "")
    if counted is not None:
        yield from _figures(labels, counted)
    for interface, seen in traffic.items():
        for one in _TRAFFIC:
            yield v1.Metric(
                name=one.name,
                metric_type=v1.COUNTER,
                label_values=(*labels, interface),
                value=number(one.read(seen)),
            )


def _figures(labels: tuple[str, ...], counted: Statistics) -> Iterator[v1.Metric]:
    for one in _FIGURES:
        yield v1.Metric(
            name=one.name,
            metric_type=one.kind,
            label_values=labels,
            value=number(one.read(counted)),
        )
