"""The only code that opens sockets: each client sends requests, and closes its connections."""
