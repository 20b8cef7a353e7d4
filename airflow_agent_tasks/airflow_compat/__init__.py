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
                       read and close a form for its worker          cannot close a form without an answer
``open_forms``         the same rows, to check an answer and when    none: REST takes an answer as it is
                       it may go on
``answer_route``       the dependencies of the route for answers,    none; a root middleware would act before
                       to check an answer that Airflow would store   Airflow has authenticated the sender
``secret_key``         the server's ``conf``, to check the           none for what runs in the API server
                       signature under a worker's request
``checked_partial``    ``definitions.mappedoperator``, to check the  none: Airflow names an unknown argument,
                       names given to ``partial`` and ``expand``     but not the one that was meant
``form_row_refresh``   columns of ``HITLDetail``, to show each       Airflow 3.4: opening the form again
                       question's own text                           refreshes its text
``early_answer_delay`` ``TaskInstance`` and ``Job`` rows, to delay   Airflow 3.4: LocalExecutor accepts an
                       an answer that comes too soon;                early resume, as CeleryExecutor does on
                       ``ExecutorLoader``, to see who needs that     3.3 too; of others it is not known
``ended_tasks``        ``TaskInstance``, ``DagRun`` and              none: nothing else is notified when a
                       ``TaskStateStoreModel`` rows and the state    task is marked that is parked, queued or
                       backend, to find orphaned agent tasks         up for retry
``kept_records``       the statement that deletes                    none: a clear over REST or in the UI
                       ``TaskStateStoreModel`` rows, to keep the     discards all of a task's state
                       record of a task that is cleared
``replaced_tasks``     sets of ``TaskInstance.archived_reason``      none: no listener is notified
``xcom_rows``          ``XComModel``, to write how an agent task      REST, with a user's credentials
                       ended whose task has no worker any more
``version_compat``     ``airflow.__version__``                       this is it
``deployment``         Airflow's health report, the list of its      REST, with a user's credentials; the
                       connections and its database's clock, for     command must work without them
                       ``airflow agent-tasks doctor``
``console``            ``AirflowConsole``, for a table like those    none
                       of Airflow's commands
====================== ============================================= ========================================

``form_row_refresh`` and ``early_answer_delay`` exist for Airflow 3.3, ``kept_records`` and
``replaced_tasks`` for 3.4 and later, as their first lines say.
``requirements`` lists the names, columns and parameters that these modules need, and what follows without
them; ``startup_check`` tries that table against the Airflow that runs.
``api_server``, ``form_orders`` and ``worker_request_signature`` use nothing private: they send, describe and
sign what a worker asks of the plugin.
"""
