"""The lifecycle of an agent task, as pure decisions: when to poll, what a question means, what to record."""
