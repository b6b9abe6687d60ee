"""What a training needs in memory, found by walking its own step on tensors without data: no weight is loaded."""
