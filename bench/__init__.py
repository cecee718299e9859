"""What the agent costs: CPU per page beside other readers of the same pages, memory, start. ``python -m bench``."""
