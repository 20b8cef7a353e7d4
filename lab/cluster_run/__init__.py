"""Runs many agent tasks on an Airflow with two of each component, and breaks each of them meanwhile."""
