"""Attention over paged keys and values.  Imports JAX only, never jpaged."""
