"""What an agent asks reaches notifiers as it was said, however often one of them is called."""

from __future__ import annotations

import itertools
import logging
import threading
from copy import deepcopy
from typing import Any

import pytest
from airflow.sdk import BaseNotifier

from airflow_agent_tasks.worker.notifiers import notify

LOG = logging.getLogger("notify")
SECRET = "hush-hush-4711"
HOSTILE = [
    "{{ secret }}",
    "{{ secret[::-1] }}",
    "{{ 7 * 7 }}",
    "{% for x in [1, 2] %}{{ secret }}{% endfor %}",
    "{# gone #} {{ question }}",
    "{{ '{{' }} secret }}",
    "{% raw %}{{ secret }}{% endraw %}",
    "plain",
    "",
]
#: What would show that something was rendered.
RENDERED = [SECRET, SECRET[::-1], "49"]


class Inner:
    template_fields = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Recorder(BaseNotifier):
    """Keeps what it would send."""

    template_fields = ("text",)

    def __init__(self, text: Any, sent: list[Any]) -> None:
        super().__init__()
        self.text = text
        self.sent = sent
        self.lock = threading.Lock()  # which cannot be copied

    def notify(self, context: Any) -> None:
        self.sent.append(self.text.text if isinstance(self.text, Inner) else self.text)


SHAPES: dict[str, Any] = {
    "text": "asked: {{ question }}",
    "list": ["asked:", ["{{ question }}"]],
    "dict": {"blocks": [{"text": "{{ question }}"}]},
    "tuple": ("{{ question }}",),
    "object": Inner("{{ question }}"),
}


def expect(shape: str, question: str) -> Any:
    def fill(value: Any) -> Any:
        if isinstance(value, Inner):
            return fill(value.text)
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(fill, value))
        return value.replace("{{ question }}", question)

    return fill(deepcopy(SHAPES[shape]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("first", "second"), itertools.permutations(HOSTILE, 2))
def test_each_notification_has_its_own_question_as_it_was_said(shape: str, first: str, second: str) -> None:
    sent: list[Any] = []
    notifier = Recorder(deepcopy(SHAPES[shape]), sent)
    context: Any = {"secret": SECRET, "dag": None}
    for question in (first, second, first):
        # The same object twice, as in a list that two tasks share.
        notify([notifier, notifier], context, question, LOG)
    assert sent == [expect(shape, question) for question in (first, second, first) for _ in (1, 2)]
    assert not [text for text in RENDERED if text in str(sent)]
    assert context == {"secret": SECRET, "dag": None}


def test_a_notifier_that_is_also_a_callback_is_left_as_its_author_wrote_it() -> None:
    sent: list[Any] = []
    notifier = Recorder("{{ question }}", sent)
    notify([notifier], {"secret": SECRET}, "{{ secret }}", LOG)  # type: ignore[typeddict-unknown-key]
    notifier({"secret": SECRET, "question": "later"})
    assert sent == ["{{ secret }}", "later"]


def test_a_function_is_a_notifier_too() -> None:
    seen: list[Any] = []
    notify([lambda context: seen.append(context["question"])], {}, "{{ 7 }}", LOG)  # type: ignore[list-item]
    assert seen == ["{{ 7 }}"]


def test_a_notifier_that_fails_does_not_keep_the_next_from_being_called(caplog: Any) -> None:
    class Fails(BaseNotifier):
        template_fields = ("missing",)

        def notify(self, context: Any) -> None:
            raise RuntimeError("the chat is down")

    sent: list[Any] = []
    notify([Fails(), Recorder("{{ question }}", sent)], {}, "Which?", LOG)
    assert sent == ["Which?"]
    assert "A notifier failed, the question stays open" in caplog.text
