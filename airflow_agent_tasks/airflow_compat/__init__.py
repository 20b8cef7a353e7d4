"""The one door to Airflow's inner parts."""
