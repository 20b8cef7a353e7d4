"""Callbacks: the URL that a service calls when an agent task changes, for workers and the API server."""
