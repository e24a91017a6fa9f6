"""The machine's memory. proc_meminfo(5)."""


def available_bytes() -> int:
    """Return how much memory is available without swapping, as the kernel estimates it."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return 0
