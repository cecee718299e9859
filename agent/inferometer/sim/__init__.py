"""A simulated outside world that speaks the real protocols: traffic, LLM engines and GPUs, for demo and tests."""
