"""``make matrix``: the tests on each version of Airflow, Python and database that the package supports."""
