"""Inferometer: what LLM inference costs while it runs."""

__version__ = "0.1.0"
