"""The answer cache: the key of a question, stores for answers, and the layers in front of the engine."""
