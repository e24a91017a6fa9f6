"""The same classes for programs with an event loop."""
