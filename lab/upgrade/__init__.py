"""Rehearses an upgrade to a newer Airflow while agent tasks wait; see ``__main__.py``."""
