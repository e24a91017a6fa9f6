"""Commands about the engine as a whole, one file each."""
