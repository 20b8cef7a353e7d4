"""The commands of ``airflow agent-tasks``."""
