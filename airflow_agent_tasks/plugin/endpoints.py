"""The endpoints that this package adds to the API server under ``/agent-tasks``."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Route

from airflow_agent_tasks.plugin.form_endpoint import change_form
from airflow_agent_tasks.plugin.health_endpoint import report_health

app = Starlette(
    routes=[
        Route("/required-action", change_form, methods=["POST"]),
        Route("/health", report_health, methods=["POST"]),
    ]
)
# A redirect would repeat the Host header of an untrusted request.
app.router.redirect_slashes = False
