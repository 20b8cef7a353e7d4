"""
All uses of Airflow's private APIs: no other folder imports anything from Airflow that is not public.

``tests/test_layers.py`` lists what is public, and fails on any other import outside of this folder.

====================== ============================================= ========================================
module                 what it uses, and why                         the public alternative
====================== ============================================= ========================================
``task_telemetry``     a task instance's ``context_carrier``, for    none: the current span has its parent,
                       the spans of an agent task                    but only on a worker
``state_store``        ``context["task_state_store"]``, to find the  this is public; only the class of its
                       agent task of an earlier try                  failures is not documented
``task_states``        a task instance's ``get_task_states``, to     this is public on a worker; none for a
                       tell a task that someone marked failed or     trigger
                       success from one whose worker was lost
``supervisor``         ``comms.GetTaskStates`` and                   none: a trigger has no such method, and
                       ``task_runner.SUPERVISOR_COMMS``, for the     nothing else tells a task of
                       same in a trigger, and on a worker to         ``dag.test()``
                       recognise ``dag.test()``
``reported_end``       ``task_runner.SUPERVISOR_COMMS``, to hear     a task instance's ``get_task_states``: a
                       whether Airflow has accepted a deferral or    request in each execution, and too early
                       a success                                     before a deferral
``resume_timing``      ``[workers] min_heartbeat_interval``: the     none; the scheduler would have to accept
                       scheduler fails a task that resumes earlier   an early resume
``required_action``    ``execution_time.hitl.upsert_hitl_detail``,   ``HITLOperator``, for an operator that
                       to open a form in the middle of a task        only asks
``rendered_fields``    ``BaseOperator._do_render_template_fields``   none
                       and ``_ti_context_from_server``, to store
                       only the fields that are set, and once
``form_rows``          ``HITLDetail`` and ``TaskInstance`` rows, to  REST, with a user's credentials; it
                       read and close a form for its worker          cannot close a form without an answer
``open_forms``         the same rows, to check an answer and to      none: REST stores any answer
                       decide when it may proceed
``answer_route``       the dependencies of the route for answers,    none; a root middleware would run before
                       to check an answer before Airflow stores it   Airflow has authenticated the sender
``secret_key``         the server's ``conf``, to check the           none in the API server
                       signature of a worker's request
``checked_partial``    ``definitions.mappedoperator``, to check the  none: Airflow names an unknown argument,
                       names given to ``partial`` and ``expand``     but suggests no correction
``form_row_refresh``   columns of ``HITLDetail``, to show each       Airflow 3.4: opening the form again
                       question's own text                           refreshes its text
``resume_delay``       ``TaskInstance`` and ``Job`` rows, to resume  none; the scheduler would have to accept
                       no task before the scheduler has seen it      an early resume
                       leave its worker
``early_answer_delay`` ``ExecutorLoader``, to see whether an answer  Airflow 3.4: LocalExecutor accepts an
                       that comes too soon must be delayed           early resume, as CeleryExecutor does on
                                                                     3.3 too; for others this is unknown
``ended_tasks``        ``TaskInstance``, ``DagRun`` and              none: nothing else is notified when
                       ``TaskStateStoreModel`` rows and the state    someone marks a task failed or success
                       backend, to find orphaned agent tasks         while parked, queued or up for retry
``waiting_tasks``      ``TaskInstance`` and ``DagRun`` rows and      none: REST resumes a task only with the
                       ``handle_event_submit``, to wake a task       answer to a form
                       whose service has called back
``earlier_tries``      ``TaskInstanceHistory`` rows, to find the     Airflow 3.4: they are ``TaskInstance``
                       present try of a task that an earlier one     rows
                       of it has given a URL for
``kept_records``       the statement that deletes                    none: a clear over REST or in the UI
                       ``TaskStateStoreModel`` rows, to keep the     discards all of a task's state
                       record of a cleared task
``replaced_tasks``     sets of ``TaskInstance.archived_reason``      none: no listener is notified
``xcom_rows``          ``XComModel``, to write the final status of   REST, with a user's credentials
                       an agent task without a worker
``submission_rows``    ``TaskStateStoreModel``, ``TaskInstance``     none: REST has one task's state at a time
                       and ``XComModel`` rows, to list agent tasks
``detached_rows``      the same rows, of agents that no execution    none
                       awaits
``slot_rows``          the same rows, ``DagRun`` and ``Pool``, to     pools and ``max_active_tis_per_dag``,
                       count the agents of a connection              which count no tasks with open questions
``page_access``        ``core_api.security`` and the auth manager,   none for a page of a plugin; other
                       to show each user what Airflow lets them see  providers use the same
``audit_log``          ``Log`` rows, for what people do to agent     none
                       tasks
``marked_failed``      ``SerializedDAG.set_task_instance_state``,    REST, with a user's credentials; a
                       to end the task whose agent someone stops     command must work without them
``version_compat``     ``airflow.__version__``                       this is public
``deployment``         Airflow's health report, the list of its      REST, with a user's credentials; the
                       connections and its database's clock, for     command must work without them
                       ``airflow agent-tasks doctor``
``console``            ``AirflowConsole``, for a table like those    none
                       of Airflow's commands
====================== ============================================= ========================================

``form_row_refresh``, ``earlier_tries`` and ``early_answer_delay`` exist for Airflow 3.3, ``kept_records`` and
``replaced_tasks`` for 3.4 and later, as their first lines say.
``requirements`` lists the names, columns and parameters that these modules need, and the consequence if one
is missing, in the form of ``requirement``; ``startup_check`` checks the running Airflow against that table.
``api_server``, ``form_orders``, ``slot_orders`` and ``worker_request_signature`` use nothing private: they
send, describe and sign requests to the plugin.
"""
