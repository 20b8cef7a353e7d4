"""
The Airflow internals that this package needs, and the consequence if one is missing. Data only.

``startup_check`` checks the running Airflow against this table. Parts that only the command ``doctor`` needs
are not in it, because that command itself reports what it could not check.
"""

from __future__ import annotations

from airflow_agent_tasks.airflow_compat.requirement import Part, Requirement
from airflow_agent_tasks.airflow_compat.version_compat import AIRFLOW_V_3_4_PLUS

_STATE_ROW = "airflow.models.task_state_store:TaskStateStoreModel"
_TASK_ROW = "airflow.models.taskinstance:TaskInstance"
_CREATE_SESSION = Part("airflow.utils.session:create_session", parameters="scoped")
_TASK_RUNNER = "airflow.sdk.execution_time.task_runner"
_TASK_KEY = "dag_id run_id task_id map_index"
_TASK_NAMES = "dag_id run_id task_id map_index|region_index"

REQUIREMENTS = (
    Requirement(
        "state_store",
        "no agent task can be started, because its record cannot be stored",
        (
            Part("airflow.sdk:Context", attributes="task_state_store"),
            Part("airflow.sdk.execution_time.context:TaskStateStoreAccessor", attributes="get set delete"),
        ),
    ),
    Requirement(
        "task_states",
        "agent tasks keep running when their Airflow tasks are marked failed or success while a worker runs "
        "them",
        (
            Part(
                f"{_TASK_RUNNER}:RuntimeTaskInstance.get_task_states",
                parameters="dag_id run_ids task_ids map_index",
            ),
        ),
    ),
    Requirement(
        "supervisor",
        "agent tasks keep running when their Airflow tasks are marked failed or success while deferred",
        (
            Part(
                "airflow.sdk.execution_time.comms:GetTaskStates",
                parameters="dag_id run_ids task_ids map_index",
            ),
            Part("airflow.sdk.execution_time.comms:TaskStatesResult", parameters="task_states"),
            Part("airflow.sdk.execution_time:task_runner", attributes="SUPERVISOR_COMMS"),
        ),
    ),
    Requirement(
        "reported_end",
        "records of completed agent tasks stay open, and agent tasks keep running when their Airflow tasks "
        "are marked failed or success just before they defer",
        (
            Part("airflow.sdk.execution_time:task_runner", attributes="SUPERVISOR_COMMS"),
            Part("airflow.sdk.execution_time:comms", attributes="DeferTask SucceedTask"),
        ),
    ),
    Requirement(
        "task_telemetry",
        "the spans of agent tasks are not in the traces of their Airflow tasks",
        (Part("airflow.sdk.api.datamodels._generated:TaskInstance", attributes="context_carrier"),),
    ),
    Requirement(
        "required_action",
        "an agent's question fails the Airflow task if the plugin cannot be reached",
        (
            Part(
                "airflow.sdk.execution_time.hitl:upsert_hitl_detail",
                parameters="ti_id options subject body params assigned_users",
            ),
        ),
    ),
    Requirement(
        "rendered_fields",
        "the pages of tasks list fields that are not set, and each execution takes a little longer",
        (
            Part("airflow.sdk:BaseOperator", attributes="_do_render_template_fields template_fields"),
            Part(f"{_TASK_RUNNER}:RuntimeTaskInstance", attributes="_ti_context_from_server"),
            Part("airflow.sdk.api.datamodels._generated:TIRunContext", attributes="next_method"),
        ),
    ),
    Requirement(
        "secret_key",
        "the API server rejects the workers' requests to the plugin",
        (Part("airflow.configuration:conf", attributes="get"),),
    ),
    Requirement(
        "form_rows",
        "forms under Required Actions cannot show each question's own text, and are not closed",
        (
            Part(_TASK_ROW, attributes="id state"),
            Part(
                "airflow.models.hitl:HITLDetail",
                attributes="ti_id responded_at chosen_options response_received as_resume_event_payload",
            ),
            Part("airflow.utils.state:TaskInstanceState", attributes="RUNNING"),
            _CREATE_SESSION,
        ),
    ),
    Requirement(
        "open_forms",
        "an empty answer to a question is accepted, and the question is asked again later",
        (
            Part(_TASK_ROW, attributes=f"id {_TASK_KEY}"),
            Part("airflow.models.hitl:HITLDetail", attributes="ti_id options params responded_at"),
            _CREATE_SESSION,
        ),
    ),
    Requirement(
        "form_row_refresh",
        "forms under Required Actions cannot show each question's own text",
        (
            Part(
                "airflow.models.hitl:HITLDetail",
                attributes="subject body options params assignees defaults multiple created_at "
                "responded_at responded_by chosen_options params_input",
            ),
        ),
        is_needed=not AIRFLOW_V_3_4_PLUS,
    ),
    Requirement(
        "resume_delay",
        "an answer within seconds of its question may fail the task, and callbacks wake no tasks",
        (
            Part("airflow.jobs.job:Job", attributes="id state latest_heartbeat"),
            Part(_TASK_ROW, attributes="id state updated_at queued_by_job_id"),
        ),
    ),
    Requirement(
        "early_answer_delay",
        "an answer within seconds of its question may fail the task",
        (
            Part("airflow.executors.executor_loader:ExecutorLoader", attributes="get_executor_names"),
            Part("airflow.executors.local_executor:LocalExecutor"),
            _CREATE_SESSION,
        ),
    ),
    Requirement(
        "ended_tasks",
        "agent tasks keep running when their Airflow tasks are marked failed or success while no worker runs "
        "them, or are skipped at the end of a run",
        (
            Part("airflow.models.dagrun:DagRun", attributes="dag_id run_id state"),
            Part(_TASK_ROW, attributes=f"id state max_tries {_TASK_KEY}"),
            Part(_STATE_ROW, attributes=f"id key {_TASK_NAMES}"),
            Part("airflow.state:TaskScope", parameters="dag_id run_id task_id map_index|region_index"),
            Part("airflow.state:get_state_backend"),
            Part("airflow.utils.state:State", attributes="finished_dr_states"),
            _CREATE_SESSION,
        ),
    ),
    Requirement(
        "waiting_tasks",
        "tasks are not woken when their services call back, and find the end only by their rare polls",
        (
            Part("airflow.models.dagrun:DagRun", attributes="dag_id run_id triggered_by"),
            Part(_TASK_ROW, attributes=f"id state updated_at {_TASK_KEY}"),
            Part("airflow.models.trigger:handle_event_submit", parameters="event task_instance session"),
            Part("airflow.utils.types:DagRunTriggeredByType", attributes="TEST"),
            _CREATE_SESSION,
        ),
    ),
    Requirement(
        "earlier_tries",
        "callbacks wake no task that is not in its first try",
        (
            Part(
                "airflow.models.taskinstancehistory:TaskInstanceHistory",
                attributes=f"task_instance_id {_TASK_KEY}",
            ),
        ),
        is_needed=not AIRFLOW_V_3_4_PLUS,
    ),
    Requirement(
        "kept_records",
        "a clear leaves the agent task of the cleared task running beside the new one",
        (
            Part(_STATE_ROW, attributes="key dag_id run_id task_id"),
            Part("airflow.state:TaskScope", parameters="dag_id run_id task_id"),
            Part("airflow.state.metastore:_get_db_backend"),
        ),
        is_needed=AIRFLOW_V_3_4_PLUS,
    ),
    Requirement(
        "replaced_tasks",
        "agent tasks keep running when a clear replaces their Airflow tasks with others",
        (Part(_TASK_ROW, attributes="archived_reason"),),
        is_needed=AIRFLOW_V_3_4_PLUS,
    ),
    Requirement(
        "xcom_rows",
        "the XCom status of a task marked failed or success shows a running agent forever",
        (
            Part("airflow.models.xcom:XComModel", attributes="value"),
            Part("airflow.state:TaskScope"),
            Part(
                "airflow.models.xcom:XComModel.get_many", parameters="key run_id dag_ids task_ids map_indexes"
            ),
            Part(
                "airflow.models.xcom:XComModel.set",
                parameters="key value dag_id run_id task_id map_index serialize session",
            ),
            _CREATE_SESSION,
        ),
    ),
    Requirement(
        "submission_rows",
        "the page and the commands that list agent tasks fail",
        (
            Part(_TASK_ROW, attributes=f"id state try_number {_TASK_KEY}"),
            Part(_STATE_ROW, attributes="dag_run_id value updated_at"),
            Part("airflow.models.xcom:XComModel", attributes="dag_run_id task_id map_index key value"),
            Part("airflow.state:TaskScope"),
            _CREATE_SESSION,
        ),
    ),
    Requirement(
        "detached_rows",
        "no agent task of a connection with max_concurrent_tasks can be started",
        (Part(_STATE_ROW, attributes="id value"), Part(_TASK_ROW, attributes="id state"), _CREATE_SESSION),
    ),
    Requirement(
        "slot_rows",
        "no agent task of a connection with max_concurrent_tasks can be started",
        (
            Part("airflow.models.dag:DagModel", attributes="dag_id is_paused"),
            Part("airflow.models.dagrun:DagRun", attributes="id dag_id run_id"),
            Part("airflow.models.pool:Pool", attributes="pool DEFAULT_POOL_NAME"),
            Part(_STATE_ROW, attributes=f"id key value dag_run_id updated_at expires_at {_TASK_NAMES}"),
            Part(_TASK_ROW, attributes=f"id state try_number next_method trigger_id {_TASK_KEY}"),
            _CREATE_SESSION,
        ),
    ),
    Requirement(
        "page_access",
        "the page with all agent tasks fails",
        (
            Part("airflow.api_fastapi.app:get_auth_manager"),
            Part(
                "airflow.api_fastapi.auth.managers.base_auth_manager:BaseAuthManager.is_authorized_dag",
                parameters="method access_entity details user",
            ),
            Part(
                "airflow.api_fastapi.auth.managers.models.resource_details:DagAccessEntity",
                attributes="TASK_INSTANCE XCOM",
            ),
            Part(
                "airflow.api_fastapi.auth.managers.models.resource_details:DagDetails",
                parameters="id team_name",
            ),
            Part("airflow.api_fastapi.core_api.security:GetUserDep"),
            Part("airflow.models.dag:DagModel", attributes="get_dag_id_to_team_name_mapping"),
        ),
    ),
    Requirement(
        "audit_log",
        "nobody can act on an agent task on the page or with a command",
        (Part("airflow.models.log:Log", parameters="event owner owner_display_name extra"), _CREATE_SESSION),
    ),
    Requirement(
        "marked_failed",
        "nobody can stop an agent task on the page or with a command",
        (
            Part("airflow.listeners.listener:get_listener_manager"),
            Part(_TASK_ROW, attributes=f"state {_TASK_KEY}"),
            Part("airflow.models.dagbag:DBDagBag.get_latest_version_of_dag", parameters="dag_id session"),
            Part(
                "airflow.serialization.definitions.dag:SerializedDAG.set_task_instance_state",
                parameters="task_id run_id map_indexes state commit session",
            ),
            Part("airflow.utils.state:TaskInstanceState", attributes="FAILED"),
            _CREATE_SESSION,
        ),
    ),
    Requirement(
        "checked_partial",
        "DAG files that map an operator of this package fail",
        (
            Part("airflow.sdk:BaseOperator", attributes="partial"),
            Part("airflow.sdk.definitions.mappedoperator:MappedOperator"),
            Part(
                "airflow.sdk.definitions.mappedoperator:OperatorPartial",
                attributes="_expand_called expand expand_kwargs",
                parameters="operator_class kwargs params",
            ),
        ),
    ),
)
