"""The many waits of one process: what they share, so that ten thousand cost the service little."""
