"""Parameters: plain nested dicts of arrays, the truth about a model."""
