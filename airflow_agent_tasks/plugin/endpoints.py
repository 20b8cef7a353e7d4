"""The endpoints of the plugin in the API server, below ``/agent-tasks``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from airflow_agent_tasks.plugin.form_endpoint import change_form
from airflow_agent_tasks.plugin.health_endpoint import report_health
from airflow_agent_tasks.plugin.slot_endpoint import share_slots


async def serve_page(scope: Scope, receive: Receive, send: Send) -> None:
    """Pass a request on to the endpoints of the page."""
    # Imported here: if they no longer fit Airflow, the health endpoint must still be able to report that.
    from airflow_agent_tasks.plugin.page_endpoints import app as page

    await page(scope, receive, send)


class PageFiles(StaticFiles):
    """The files of the page; browsers ask each time whether they have changed, so an upgrade changes all."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return the response for a file."""
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


app = Starlette(
    routes=[
        Route("/required-action", change_form, methods=["POST"]),
        Route("/health", report_health, methods=["POST"]),
        Route("/slots", share_slots, methods=["POST"]),
        Mount("/static", PageFiles(directory=Path(__file__).parent / "static")),
        Mount("/page", serve_page),
    ]
)
# A redirect would repeat the Host header of an untrusted request.
app.router.redirect_slashes = False
