"""On a real NVIDIA GPU: what its driver tells and how fast, and whether the agent's joules per token are right.

Needs the machine's Python and nothing else for the first part, torch for the second, and the agent's packages where it
is to meter. Run it with ``make test-gpu``.
"""
