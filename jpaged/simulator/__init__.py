"""Serving without a device: seeded requests, replayed in virtual time.  No JAX, no numpy."""
