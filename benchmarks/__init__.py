"""Measures the figures of design section 9 beside nginx and a bare pass-through: `python -m benchmarks`."""
