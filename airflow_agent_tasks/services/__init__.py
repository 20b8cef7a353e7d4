"""The protocols of the services, as pure functions: one module per service, and shared ones."""
