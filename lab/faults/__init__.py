"""``make faults``: real processes and connections, broken on purpose, and what becomes of the agent tasks."""
