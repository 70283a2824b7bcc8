"""Cost models that are true: engines measured, and simulations held against them."""
