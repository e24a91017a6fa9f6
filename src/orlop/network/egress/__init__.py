"""Egress lists: rules for the only places that a sandbox may send to, by address and by name.

Everything it sends is routed by the host's IP, or dropped: frames of a sandbox with a list are
never switched to another port of the bridge. docs/decisions/egress.md has the reasons.
"""
