"""
Airflow's route for answers to forms, with a check of this package before it. For the API server only.

The check is one more dependency of the route, after those that authenticate and authorise: a stranger gets
Airflow's own refusal, and costs neither a query nor time here. REST under /api/v2 is public; how FastAPI
keeps the dependencies of a route is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request

ANSWER_PATH = "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/{map_index}/hitlDetails"
#: What Airflow calls the dependency that authorises a request about a DAG.
AUTHORISES = "requires_access_dag."


def add_check(app: Any, check: Callable[[Request], Awaitable[None]]) -> None:
    """
    Have each answer checked before Airflow stores it, once its sender may give it.

    :param app: Airflow's FastAPI app.
    :param check: Called with the request, whose body has been read; raises ``HTTPException`` to refuse it.
    :raises LookupError: if Airflow's route is not as this needs it.
    """
    # Imported here, as all else of a server: importing FastAPI alone takes much of a second.
    from fastapi.dependencies.utils import get_parameterless_sub_dependant
    from fastapi.params import Depends

    # A function, as FastAPI finds the types of an object's parameters nowhere.
    async def check_request(request: Request) -> None:
        await check(request)

    route = _find_route(app)
    declared = [depends.dependency for depends in route.dependencies]
    ahead = route.dependant.dependencies[: len(declared)]
    if [one.call for one in ahead] != declared or not any(map(_authorises, declared)):
        raise LookupError("its route for answers does not authorise them first")
    ours = get_parameterless_sub_dependant(depends=Depends(check_request), path=route.path_format)
    # FastAPI goes on after a dependency whose own parameters are wrong; it must not go on to this one.
    ours.dependencies = list(ahead)
    route.dependant.dependencies.insert(len(ahead), ours)


def _find_route(app: Any) -> Any:
    for route in app.routes:
        if getattr(route, "path", None) == ANSWER_PATH and "PATCH" in (getattr(route, "methods", None) or ()):
            return route
    raise LookupError("no route for answers is known")


def _authorises(dependency: Any) -> bool:
    return str(getattr(dependency, "__qualname__", "")).startswith(AUTHORISES)
