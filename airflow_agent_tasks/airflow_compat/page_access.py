"""What Airflow's auth manager lets a user of the page "Agent tasks" see and do; for the API server."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dag import DagModel
from fastapi import Depends


class Access:
    """
    The rights of one user, as Airflow's own pages of task instances check them.

    :param user: The user that Airflow has recognised in the request.
    """

    def __init__(self, user: Any) -> None:
        self._user = user
        self._is_authorized = cache(self._ask)
        #: The teams of the DAGs, in an Airflow of several teams.
        self._teams: dict[str, str | None] = {}

    @property
    def user_name(self) -> str:
        """The user's name, for the audit log."""
        return str(self._user.get_name())

    def load(self, dag_ids: Collection[str]) -> None:
        """Read what the checks of these DAGs need, with one query."""
        self._teams |= dict.fromkeys(dag_ids)
        self._teams |= DagModel.get_dag_id_to_team_name_mapping(list(dag_ids))

    def may_read_tasks(self, dag_id: str) -> bool:
        """Return whether the user may see a DAG and its task instances."""
        may = self._is_authorized
        return may("GET", None, dag_id) and may("GET", DagAccessEntity.TASK_INSTANCE, dag_id)

    def may_read_xcoms(self, dag_id: str) -> bool:
        """Return whether the user may see what a DAG's tasks have pushed to XCom."""
        return self._is_authorized("GET", DagAccessEntity.XCOM, dag_id)

    def may_act(self, dag_id: str) -> bool:
        """Return whether the user may act on a DAG's task instances, such as mark one as failed."""
        return self._is_authorized("PUT", DagAccessEntity.TASK_INSTANCE, dag_id)

    def _ask(self, method: Any, entity: DagAccessEntity | None, dag_id: str) -> bool:
        if dag_id not in self._teams:
            self.load([dag_id])
        return get_auth_manager().is_authorized_dag(
            method=method,
            access_entity=entity,
            details=DagDetails(id=dag_id, team_name=self._teams[dag_id]),
            user=self._user,
        )


def _build_access(user: GetUserDep) -> Access:
    return Access(user)


#: A parameter of an endpoint; without a valid session or token, Airflow responds with 401 or 403.
AccessDep = Annotated[Access, Depends(_build_access)]
