"""What may pass between containers, the host and the world: rules of nftables, and ports.

All rules of an engine are in one table of its own; nobody else's are touched, but for
what beside.py says. docs/decisions/firewall.md has the reasons.
"""
