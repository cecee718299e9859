"""Prometheus rules as data: what is recorded, which service levels burn, and what wakes somebody up."""
