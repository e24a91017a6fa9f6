"""Sandboxes: one, several at once, one for each command, or a pool of them."""
