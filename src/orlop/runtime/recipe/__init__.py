"""Starts as procedures: what all containers of one request have in common, looked at once.

A recipe is planned by the shim (plan.py), written down as a procedure by a launcher
(container.py, process.py) and carried out for each start by a child without an interpreter.
docs/decisions/recipes.md.
"""
