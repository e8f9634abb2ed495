"""Measurements: ratios to the bare operation and to peers, side by side in one run."""
