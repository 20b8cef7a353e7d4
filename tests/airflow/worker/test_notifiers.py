"""What an agent asks reaches notifiers as it was said, however often one of them is called."""

from __future__ import annotations

import functools
import itertools
import logging
import threading
from collections.abc import Callable
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
    assert "A notifier failed; the question stays open" in caplog.text


class Fan:
    """Calls the notifiers that it holds."""

    def __init__(self, *inner: Any) -> None:
        self.inner = {"list": list(inner), "itself": self}

    def __call__(self, context: Any) -> None:
        for notifier in self.inner["list"]:
            notifier(context)


WRAPPERS: dict[str, Callable[[Recorder], Any]] = {
    "held by another": Fan,
    "held by one that is held": lambda notifier: Fan(Fan(notifier)),
    "partial": lambda notifier: functools.partial(notifier),
    "partial argument": lambda notifier: functools.partial(lambda inner, context: inner(context), notifier),
    "bound method": lambda notifier: notifier.__call__,
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_notifier_in_another_object_is_copied_as_well(name: str) -> None:
    sent: list[Any] = []
    wrapped = WRAPPERS[name](Recorder("asked: {{ question }}", sent))
    for question in ("{{ secret[::-1] }}", "{{ secret }}"):
        notify([wrapped], {"secret": SECRET}, question, LOG)  # type: ignore[typeddict-unknown-key]
    assert sent == ["asked: {{ secret[::-1] }}", "asked: {{ secret }}"]


def test_fields_that_cannot_be_copied_or_set_keep_nobody_from_being_notified() -> None:
    class Odd(Recorder):
        template_fields = ("text", "fixed", "stubborn")
        fixed = property(lambda self: "fixed")

        def __init__(self, sent: list[Any]) -> None:
            super().__init__("{{ question }}", sent)
            self.stubborn = threading.Lock()

    sent: list[Any] = []
    notifier = Odd(sent)
    Odd.template_fields = ("text",)  # Airflow itself cannot render the others
    notify([notifier], {}, "Which?", LOG)
    assert sent == ["Which?"]
