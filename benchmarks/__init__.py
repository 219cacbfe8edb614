"""Measurements of speed and memory: ``python -m benchmarks`` (see docs/performance.md)."""
