"""Reads the options of the section ``[agent_tasks]``."""

from __future__ import annotations

import logging
import math
from functools import cache

from airflow.sdk import conf

from airflow_agent_tasks.configuration.options import SECTION, Option
from airflow_agent_tasks.text import shorten

log = logging.getLogger(__name__)


def read_text(option: Option) -> str:
    """Return the value of an option without spaces around it; empty if it is not set."""
    # With a fallback, because not every process knows the options that providers declare.
    return (conf.get(SECTION, option.name, fallback=None) or "").strip()


def read_number(option: Option) -> float:
    """Return the value of a numeric option; its default, with one warning, if it is no such number."""
    text = read_text(option)
    if text and (fault := find_fault(option, text)):
        _warn_once(f"{fault} Using {option.default}.")
        text = ""
    return float(text or option.default)


def read_integer(option: Option) -> int:
    """Return the value of an option that is a whole number; see ``read_number``."""
    return int(read_number(option))


def find_fault(option: Option, text: str) -> str | None:
    """Return what is wrong with the value of a numeric option, as a sentence, or None."""
    try:
        number = float(text)
        is_wrong = not option.minimum <= number < math.inf or (option.kind == "integer" and number % 1 != 0)
    except ValueError:
        is_wrong = True
    if not is_wrong:
        return None
    noun = "whole number" if option.kind == "integer" else "number"
    return f"{option} is {shorten(text, 60)!r}, but must be a {noun} of at least {option.minimum:g}."


@cache
def _warn_once(message: str) -> None:
    log.warning("%s", message)
