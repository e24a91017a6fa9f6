"""Engines that share networks: membership, and the messages between them."""
