"""The worker's side of an operator: performs the lifecycle's commands and reports failures to Airflow."""
