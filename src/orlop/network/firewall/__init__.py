"""The firewall between containers, the host and the outside: nftables rules, and ports.

All rules of an engine are in one table of its own; other tables are not touched, except as
beside.py says. docs/decisions/firewall.md has the reasons.
"""
