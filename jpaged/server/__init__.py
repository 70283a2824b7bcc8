"""jpaged over HTTP: one request path, and a thin translation for each protocol."""
