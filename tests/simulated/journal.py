"""What is printed of a life that fails."""

from __future__ import annotations

from typing import Any

from airflow_agent_tasks.lifecycle import commands as cmd


def describe(command: str | cmd.Command[Any]) -> str:
    """Return a line of the journal."""
    match command:
        case cmd.Log(_, message, args):
            return "  log: " + message % args
        case cmd.SaveSubmission(submission):
            stages = [f"{question.number} {question.stage.value}" for question in submission.questions.items]
            return f"SaveSubmission({submission.task_id}, {submission.on_kill_policy}, questions: {stages})"
        case cmd.StartTask():
            return "StartTask"
        case cmd.PushTask(task):
            return f"PushTask({task.status.value})"
        case cmd.ShowForm(asking) | cmd.MakeForm(asking):
            return f"{type(command).__name__}({asking.task.question!r})"
    return str(command)
