"""The commands below ``airflow agent-tasks``."""
