"""The only code that opens a socket: each client is "send this request" and close."""
