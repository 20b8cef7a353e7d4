"""What people on call do with the agent tasks of this Airflow; shared by the page and the commands."""
