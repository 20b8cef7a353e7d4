"""What an operator does on a worker, from attaching to an agent task to its outcome."""
