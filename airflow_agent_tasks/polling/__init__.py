"""Polls thousands of agent tasks from one process, at little cost to the process and the service."""
