"""Faults between a real agent and a simulated world, and what must hold in spite of them."""
