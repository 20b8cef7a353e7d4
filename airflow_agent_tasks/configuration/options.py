"""
The options of the section ``[agent_tasks]``: the only place that names them, with their defaults.

Does not import Airflow: the provider metadata lists them for every process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SECTION = "agent_tasks"


@dataclass(frozen=True)
class Option:
    """
    One option.

    :param name: Its name in the section.
    :param default: Its default, as text.
    :param description: What it is, with its unit.
    :param kind: Airflow's word for its type: ``string``, ``integer`` or ``float``.
    :param minimum: The smallest number that makes sense; for numbers.
    :param example: An example, if the default does not show what to write.
    :param is_secret: True if no command may print it.
    """

    name: str
    default: str
    description: str
    kind: str = "string"
    minimum: float = 0.0
    example: str | None = None
    is_secret: bool = False

    def __str__(self) -> str:
        return f"[{SECTION}] {self.name}"


ARTIFACTS_PATH = Option(
    "artifacts_path",
    "",
    "Where to keep the screenshots, files and large results of agents: a folder, or the URL of an object "
    "storage. Without it, a task with a result above max_xcom_bytes fails. The argument of the same name "
    "comes first.",
    example="s3://aws_default@bucket/agents",
)
MAX_XCOM_BYTES = Option(
    "max_xcom_bytes",
    "65536",
    "Bytes of JSON above which a result goes to artifacts_path instead of XCom. The argument of the same "
    "name comes first.",
    "integer",
    minimum=1,
)
MIN_POLL_INTERVAL = Option(
    "min_poll_interval",
    "2",
    "Seconds between the first two status checks of an agent task without a poll_interval. The interval then "
    "grows by 5 % of the time waited so far.",
    "float",
    minimum=0.1,
)
MAX_POLL_INTERVAL = Option(
    "max_poll_interval",
    "30",
    "The longest such interval, in seconds. With ten thousand waiting tasks, twice the interval is half of "
    "the requests and of the triggerer's CPU, and the end of an agent is seen up to that much later.",
    "float",
    minimum=0.1,
)
MAX_CONCURRENT_POLLS = Option(
    "max_concurrent_polls",
    "100",
    "The number of status checks that one triggerer sends at a time over one Airflow connection.",
    "integer",
    minimum=1,
)
CALLBACK_BASE_URL = Option(
    "callback_base_url",
    "",
    "The URL of the API server as services reach it, for tasks with callback_mode='webhook'. Default: [api] "
    "base_url.",
    example="https://airflow.example.com",
)
CALLBACK_SECRET = Option(
    "callback_secret",
    "",
    "The secret that signs the URLs of callbacks; the same on the API servers and on all machines that run "
    "tasks. To rotate it, put a new one before the old one, separated by a comma. Default: [core] "
    "fernet_key.",
    is_secret=True,
)
CALLBACK_POLL_INTERVAL = Option(
    "callback_poll_interval",
    "300",
    "Seconds between two status checks of an agent task whose service calls Airflow, in case a call is lost; "
    "up to 10 % longer at random.",
    "float",
    minimum=1,
)

OPTIONS = (
    ARTIFACTS_PATH,
    MAX_XCOM_BYTES,
    MIN_POLL_INTERVAL,
    MAX_POLL_INTERVAL,
    MAX_CONCURRENT_POLLS,
    CALLBACK_BASE_URL,
    CALLBACK_SECRET,
    CALLBACK_POLL_INTERVAL,
)


def build_metadata() -> dict[str, Any]:
    """Return the section for the provider metadata."""
    return {
        "description": "Settings of the Agent Tasks provider.",
        "options": {option.name: _describe(option) for option in OPTIONS},
    }


def _describe(option: Option) -> dict[str, Any]:
    described = {
        "description": option.description,
        "type": option.kind,
        "version_added": "0.2.0",
        "example": option.example,
        "default": option.default,
    }
    return {**described, "sensitive": True} if option.is_secret else described
