"""The scheduler: plain Python about integers.  No JAX, no numpy, no clock, no threads."""
