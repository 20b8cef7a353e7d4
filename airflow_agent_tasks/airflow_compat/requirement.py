"""The form in which ``requirements`` describes the Airflow internals that this package needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """
    A part of Airflow that is not public.

    Names are separated by spaces. ``a|b`` means one of the two, if releases differ.

    :param name: ``module:name``, or ``module:class.name``.
    :param attributes: The attributes or database columns that it must have.
    :param parameters: The parameters that it must accept by name.
    """

    name: str
    attributes: str = ""
    parameters: str = ""


@dataclass(frozen=True)
class Requirement:
    """
    The parts that one module of this folder needs.

    :param module: The module's name in this folder.
    :param consequence: The consequence if a part is missing, as a sentence without its full stop.
    :param is_needed: False if the running Airflow does not need the module.
    """

    module: str
    consequence: str
    parts: tuple[Part, ...]
    is_needed: bool = True
