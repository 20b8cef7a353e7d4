"""
The workshop beside the package: a real Airflow on this machine, and the programs that use it.

``cluster`` starts and stops that Airflow, ``demo`` runs the example DAGs in it, ``faults`` breaks it on
purpose, and ``benchmarks`` measures. Each is a command (``python -m lab.demo``, …) behind a target of the
Makefile. The wheel does not contain this folder.
"""
