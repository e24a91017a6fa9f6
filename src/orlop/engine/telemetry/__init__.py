"""The engine's telemetry: metrics, timelines of starts, and spans."""
