"""What the agent costs beside others that read the same pages. ``python -m bench``, and the parts that PARTS names.

Needs Linux, nginx, and for the peers Prometheus and vmagent (``make tools-bench``); figures mean something only on a
machine that does nothing else.
"""
