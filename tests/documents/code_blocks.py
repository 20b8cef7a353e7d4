"""
The code blocks of a document, and how each is tried.

``python`` is run, block after block in one namespace, and functions named ``test_…`` are called as pytest
would call them. What ``bash`` says is parsed by bash, by Airflow's command line and against the Makefile;
``json``, ``yaml``, ``toml`` and ``dockerfile`` are parsed. The others are for the reader alone.

A comment before a block says what a reader need not see: ``<!-- not run: why -->`` for a block that is only
parsed, and ``<!-- setup`` with lines of Python for what a block needs that the page does not define.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from packaging.requirements import Requirement

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
SHOWN_ONLY = frozenset({"text", "jinja", "mermaid", "markdown"})
DOCKERFILE_WORDS = frozenset({"FROM", "RUN", "COPY", "USER", "ENV", "ARG", "WORKDIR", "CMD", "ENTRYPOINT"})


@dataclass(frozen=True)
class CodeBlock:
    """
    :param language: The first word after the fence, or an empty text.
    :param title: The name of the file that it shows, or None.
    :param source: What stands in it.
    :param line: Its line in the document.
    :param setup: Python that is run before it, or None.
    :param is_run: False for one that is only parsed.
    """

    language: str
    title: str | None
    source: str
    line: int
    setup: str | None = None
    is_run: bool = True


def list_code_blocks(page: Path) -> list[CodeBlock]:
    """Return the code blocks of a Markdown file in their sequence, those within lists too."""
    return list(_read_blocks(page.read_text()))


def _read_blocks(text: str) -> Iterator[CodeBlock]:
    setup, is_run = None, True
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "html_block":
            if found := re.match(r"<!-- setup\n(.*)-->", token.content, re.DOTALL):
                setup = textwrap.dedent(found[1])
            is_run = not token.content.startswith("<!-- not run: ")
        elif token.type in ("fence", "code_block"):
            words = token.info.split(maxsplit=1)
            title = re.search(r'title="([^"]+)"', token.info)
            line = (token.map or [0])[0] + 1
            yield CodeBlock(
                words[0] if words else "", title[1] if title else None, token.content, line, setup, is_run
            )
            setup, is_run = None, True


class Trial:
    """
    Tries the code blocks of one document.

    :param dags_folder: Where the blocks whose title is a file in ``dags/`` are written.
    :param find_fixture: Returns the pytest fixture of a name, for the tests in a block.
    """

    def __init__(self, dags_folder: Path, find_fixture: Callable[[str], Any]) -> None:
        self.dags_folder = dags_folder
        self._find_fixture = find_fixture
        self._namespace: dict[str, Any] = {
            "__name__": "document",
            "__file__": str(dags_folder / "document.py"),
        }
        #: How many blocks were run, and how many only parsed.
        self.run_count = self.parsed_count = 0

    def try_block(self, page: Path, block: CodeBlock) -> None:
        """Run or parse one block; raises what is wrong with it."""
        if block.language == "python":
            self._try_python(page, block)
        elif block.language not in SHOWN_ONLY:
            PARSERS[block.language](block.source)
            self.parsed_count += 1

    def _try_python(self, page: Path, block: CodeBlock) -> None:
        # The lines before it, so that a traceback shows the line of the document.
        code = compile("\n" * block.line + block.source, str(page), "exec")
        if block.title and block.title.startswith("dags/"):
            (self.dags_folder / Path(block.title).name).write_text(block.source)
        if not block.is_run:
            self.parsed_count += 1
            return
        if block.setup:
            exec(compile(block.setup, f"{page} (setup)", "exec"), self._namespace)  # noqa: S102
        known = set(self._namespace)
        exec(code, self._namespace)  # noqa: S102
        for name in [name for name in self._namespace if name.startswith("test_") and name not in known]:
            function = self._namespace[name]
            function(*[self._find_fixture(argument) for argument in inspect.signature(function).parameters])
        self.run_count += 1


def parse_bash(source: str) -> None:
    """Raise for what bash cannot parse, an unknown command of Airflow, and an unknown target of make."""
    done = subprocess.run(["bash", "-n"], input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in re.split(r"\n|&&", source.replace("\\\n", " ")):
        words = [word for word in shlex.split(command, comments=True) if not re.match(r"[A-Z_]+=", word)]
        if words[:1] == ["airflow"]:
            _parse_airflow(words[1:])
        elif words[:1] == ["make"]:
            targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
            assert {word for word in words[1:] if "=" not in word} <= targets, command
        elif words[:2] == ["pip", "install"]:
            names = [word for word in words[2:] if re.match(r"[a-z]", word)]
            assert all(Requirement(name) for name in names if "/" not in name and ".txt" not in name)


def _parse_airflow(words: list[str]) -> None:
    from airflow.cli.cli_parser import get_parser

    # A redirection or a pipe ends the command.
    ends = [place for place, word in enumerate(words) if word in ("|", ">", ">>", "&", "2>")]
    arguments = words[: ends[0]] if ends else words
    try:
        get_parser().parse_args(arguments)
    except SystemExit as error:
        raise AssertionError(f"airflow {' '.join(arguments)}: no such command") from error


def parse_dockerfile(source: str) -> None:
    """Raise for a line that begins with no instruction."""
    for line in source.replace("\\\n", " ").splitlines():
        assert not line.strip() or line.startswith("#") or line.split()[0] in DOCKERFILE_WORDS, line


PARSERS: dict[str, Callable[[str], Any]] = {
    "bash": parse_bash,
    "dockerfile": parse_dockerfile,
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
}
