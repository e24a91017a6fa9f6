"""How an engine is asked: over HTTP, or over `sandboxes.sock`."""
