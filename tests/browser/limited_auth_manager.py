"""An auth manager for one test: the guest may not see the DAGs whose ids begin with "secret"."""

from __future__ import annotations

import sys
from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser


class LimitedAuthManager(SimpleAuthManager):
    """Airflow's own auth manager, with a limit for one user."""

    def is_authorized_dag(self, *, user: Any, details: Any = None, **rest: Any) -> bool:
        """Return whether the user may do something with a DAG."""
        if user.get_name() == "guest" and details and (details.id or "").startswith("secret"):
            return False
        return bool(super().is_authorized_dag(user=user, details=details, **rest))


def main() -> None:
    """Print a token of a user: their name and role are the arguments."""
    from airflow.api_fastapi.app import create_auth_manager

    name, role = sys.argv[1:]
    print(create_auth_manager().generate_jwt(SimpleAuthManagerUser(username=name, role=role)))


if __name__ == "__main__":
    main()
