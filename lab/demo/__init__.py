"""``make demo``, ``make up`` and ``make down``: the example DAGs in a real Airflow, on the sandbox."""
