"""What is measured, a file each: from a run to rows of figures."""
