"""What `orlop-cni` does: our drivers and addresses for engines that speak CNI.

A process per command, so everything here imports little; and nothing of it stays but
what the kernel has, and the leases.
"""
