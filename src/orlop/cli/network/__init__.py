"""Commands about networks, one file each."""
