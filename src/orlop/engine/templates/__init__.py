"""Template sandboxes: an interpreter that is started once, and forked for each run."""
