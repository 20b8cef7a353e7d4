"""Generated inputs, in search of what nobody thought of."""
