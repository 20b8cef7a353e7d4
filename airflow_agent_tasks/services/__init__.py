"""The protocols of the services, as pure functions: one module per service, and what they share."""
