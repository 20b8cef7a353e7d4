"""
What the services speak, as pure functions: nothing here does I/O, reads a clock, sleeps or imports Airflow.
"""
