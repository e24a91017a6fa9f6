"""Sandboxes for Python programs: what `import orlop` gives. See docs/sandboxes.md."""
