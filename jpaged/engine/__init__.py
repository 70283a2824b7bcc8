"""Where scheduler and device meet, and where text becomes tokens and back."""
