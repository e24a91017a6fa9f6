"""What Orlop is measured beside: a driver for each, left out where it is not installed."""
