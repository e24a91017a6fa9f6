"""Pods: namespaces that several containers share, kept without a process."""
