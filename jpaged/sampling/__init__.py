"""From logits to tokens, on the device, each row by its own rules."""
