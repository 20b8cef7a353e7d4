"""An Apache Airflow provider for agent tasks: long-running AI agent jobs on a hosted service."""
