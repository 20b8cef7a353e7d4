"""``make faults``: breaks real processes and connections, and checks what happens to the agent tasks."""
