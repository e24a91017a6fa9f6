"""Commands about volumes, one file each."""
