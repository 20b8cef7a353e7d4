"""
The one door to Airflow's private parts: no other room imports anything of Airflow that is not public.

``tests/test_layers.py`` lists what is public, and fails on an import that goes past this door.

====================== ============================================= ========================================
module                 what it uses, and why                         the public way
====================== ============================================= ========================================
``state_store``        ``context["task_state_store"]``, to find the  this is it; only the class of its
                       agent task of an earlier try                  failures is not documented
``task_states``        a task instance's ``get_task_states``, to     this is it, on a worker; for a trigger
                       tell a user's mark from a lost worker         there is none
``supervisor``         ``comms.GetTaskStates`` and                   none: a trigger has no such method
                       ``task_runner.SUPERVISOR_COMMS``, for the
                       same in a trigger
``resume_timing``      ``[workers] min_heartbeat_interval``, as the  none; the scheduler would have to accept
                       scheduler fails a task that resumes earlier   an early resume
``required_action``    ``execution_time.hitl.upsert_hitl_detail``,   ``HITLOperator``, for an operator that
                       to open a form in the midst of a task         does nothing but ask
``form_rows``          ``HITLDetail`` and ``TaskInstance`` rows, to  REST, with a user's credentials; it
                       read and close a form for its worker; the     cannot close a form without an answer
                       server's ``conf``, to check the signature
``checked_partial``    ``definitions.mappedoperator``, to check the  none: Airflow names an unknown argument,
                       names given to ``partial`` and ``expand``     but not the one that was meant
``form_row_refresh``   columns of ``HITLDetail``, to show each       Airflow 3.4: opening the form again
                       question's own text                           refreshes its text
``early_answer_delay`` ``TaskInstance``, ``HITLDetail`` and ``Job``  Airflow 3.4: LocalExecutor accepts an
                       rows, to delay an answer that comes too soon; early resume, as CeleryExecutor does on
                       ``ExecutorLoader``, to see who needs that     3.3 too; of others it is not known
``ended_tasks``        ``TaskInstance``, ``DagRun`` and              none: nothing else is notified when a
                       ``TaskStateStoreModel`` rows and the state    task is marked that is parked, queued or
                       backend, to find orphaned agent tasks         up for retry
====================== ============================================= ========================================

``form_row_refresh`` and ``early_answer_delay`` exist for Airflow 3.3; they say when to delete them.
``startup_check`` reports which of these modules no longer fit the Airflow that runs.
``worker_request_signature`` uses nothing of Airflow: it signs what a worker asks of ``form_rows``.
"""
