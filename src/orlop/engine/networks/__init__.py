"""Networks: what there is, who is on it, and how it gets there."""
