"""The plugin `orlop-cni`: our drivers and addresses for engines that speak CNI.

Each command is a process, so everything here imports little; only the kernel's objects and
the leases stay.
"""
