"""Training: methods, step plan, the loop over transformers' Trainer, checkpoints."""
