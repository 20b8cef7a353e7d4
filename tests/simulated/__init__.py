"""
A simulated world for the life of an agent task: the service, Airflow and its users, by a clock of its own.

It performs the life's commands as a worker would, and interrupts them at chosen points: a crash, a clear or a
kill, before or after the n-th command. Whatever the interruption leaves of Airflow goes on as Airflow does:
the next try, the trigger, the resume, the plugin that stops abandoned agent tasks.
"""
