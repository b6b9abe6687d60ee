"""Training methods: each prepares a model, and saves what it trained."""
