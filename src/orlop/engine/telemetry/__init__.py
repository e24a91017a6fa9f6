"""What the engine tells of itself: metrics, timelines of starts, and spans."""
