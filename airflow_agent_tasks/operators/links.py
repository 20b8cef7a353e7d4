"""The links on the page of a task in the Airflow UI. Airflow finds them by their XCom keys."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink, BaseXCom

from airflow_agent_tasks.agent_task import QUESTION_LINK_KEY, TASK_LINK_KEY

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


class _StoredLink(BaseOperatorLink):
    """A link that the task itself stores as soon as it is known."""

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """
        Return the stored link, or an empty string: the UI then shows none.

        Airflow calls this at the end of each execution, and stores what it returns.
        """
        return str(BaseXCom.get_value(ti_key=ti_key, key=self.xcom_key) or "")


class AgentTaskLink(_StoredLink):
    """The agent task's page on its service, if the connection has its address (``task_url``)."""

    name = "Agent task"
    xcom_key = TASK_LINK_KEY


class QuestionLink(_StoredLink):
    """The form of the agent's question under Required Actions, while the question is open."""

    name = "Question"
    xcom_key = QUESTION_LINK_KEY


#: The links of the operators that act on an agent task, and of those that run one.
TASK_LINKS: Collection[BaseOperatorLink] = (AgentTaskLink(),)
ALL_LINKS: Collection[BaseOperatorLink] = (*TASK_LINKS, QuestionLink())


def list_unstored(operator: Any) -> Collection[BaseOperatorLink]:
    """
    Return the links that Airflow still has to store at the end of this execution: those of others.

    For each of ours it would ask for the link and store it again, or store an empty one, which makes a row in
    XCom for each task that has none.
    """
    return [link for link in operator.operator_extra_links if not isinstance(link, _StoredLink)]
