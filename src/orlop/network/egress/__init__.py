"""Where a sandbox may send to, and nothing else: rules for its end on the host, and names.

What leaves it is let through by the host's IP or not at all: frames of a guarded sandbox are
never switched to another port of the bridge. docs/decisions/egress.md has the reasons.
"""
