"""The parts that models are drawn with.  Layers take numbers and parts, never model names."""
