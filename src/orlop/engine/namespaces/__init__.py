"""What containerd's clients keep, each in a namespace of its own."""
