"""
Adds this package's check to Airflow's route for answers to forms. For the API server only.

The check is an additional dependency of the route, after those that authenticate and authorise: Airflow
itself rejects an unauthorised request, before it costs a query or time here. The REST API under /api/v2 is
public, but the way FastAPI stores the dependencies of a route is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request

ANSWER_PATH = "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/{map_index}/hitlDetails"
#: Airflow's name for the dependency that authorises a request about a DAG.
AUTHORISES = "requires_access_dag."


def add_check(app: Any, check: Callable[[Request], Awaitable[None]]) -> None:
    """
    Check each answer after Airflow has authorised its sender, and before Airflow stores it.

    :param app: Airflow's FastAPI app.
    :param check: Called with the request, whose body has been read; raises ``HTTPException`` to refuse it.
    :raises LookupError: if Airflow's route differs from what this needs.
    """
    # Imported here, like all server code: importing FastAPI alone takes most of a second.
    from fastapi.dependencies.utils import get_parameterless_sub_dependant
    from fastapi.params import Depends

    # A function, because FastAPI cannot find the parameter types of a callable object.
    async def check_request(request: Request) -> None:
        await check(request)

    route = _find_route(app)
    declared = [depends.dependency for depends in route.dependencies]
    ahead = route.dependant.dependencies[: len(declared)]
    if [one.call for one in ahead] != declared or not any(map(_authorises, declared)):
        raise LookupError("its route for answers does not authorise them first")
    ours = get_parameterless_sub_dependant(depends=Depends(check_request), path=route.path_format)
    # FastAPI continues after a dependency whose own parameters are invalid; it must not continue to this one.
    ours.dependencies = list(ahead)
    route.dependant.dependencies.insert(len(ahead), ours)


def _find_route(app: Any) -> Any:
    for route in app.routes:
        if getattr(route, "path", None) == ANSWER_PATH and "PATCH" in (getattr(route, "methods", None) or ()):
            return route
    raise LookupError("it has no route for answers")


def _authorises(dependency: Any) -> bool:
    return str(getattr(dependency, "__qualname__", "")).startswith(AUTHORISES)
