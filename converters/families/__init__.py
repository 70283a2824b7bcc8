"""One table of rules a family."""
