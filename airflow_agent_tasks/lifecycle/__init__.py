"""The life of one agent task, as pure decisions: when to wait on, what a question means, what to remember."""
