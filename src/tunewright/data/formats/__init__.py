"""From a parsed row to a draft of typed turns: the row formats of the field."""
