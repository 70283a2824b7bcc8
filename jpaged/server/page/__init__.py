"""The page at `/`: chat with a model, and watch its engine."""
