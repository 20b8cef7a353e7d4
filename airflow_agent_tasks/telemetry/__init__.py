"""Reports measurements through Airflow's own metrics and traces; nothing here ever fails its caller."""
