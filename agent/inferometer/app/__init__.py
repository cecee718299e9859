"""The composition roots, one per command: they wire the parts by hand, and only they know them all."""
