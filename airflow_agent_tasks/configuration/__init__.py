"""The section ``[agent_tasks]`` of Airflow's configuration."""
