"""
Development programs for this package, which run a real Airflow on this machine.

``cluster`` starts and stops that Airflow, ``demo`` runs the example DAGs in it, ``faults`` breaks it on
purpose, and ``benchmarks`` measures it. Each is a command (``python -m lab.demo``, …) behind a target of the
Makefile. The wheel does not contain this folder.
"""
