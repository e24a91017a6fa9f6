"""Commands that run in a sandbox: their streams, their input, their results."""
