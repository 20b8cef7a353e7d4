"""Polls thousands of agent tasks from one process, at little cost to it and to the service."""
