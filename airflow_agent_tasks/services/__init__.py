"""What the services speak, as pure functions: one module a service, and what they have in common."""
