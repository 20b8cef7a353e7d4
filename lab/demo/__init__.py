"""``make demo``, ``make up`` and ``make down``: the example DAGs in a real Airflow, with the sandbox."""
