"""What the model will see: the proof of mask, BOS and end tokens, and their table."""
