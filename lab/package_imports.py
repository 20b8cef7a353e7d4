"""A table of the package's folders: files, lines, and imports in and out."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lab.command_line import build_parser
from lab.paths import ROOT

PACKAGE = "airflow_agent_tasks"


def list_modules(root: Path) -> dict[str, Path]:
    """Return the modules below a package's folder, by name without the package's name."""
    paths = {path.relative_to(root).with_suffix(""): path for path in sorted(root.rglob("*.py"))}
    return {".".join(part for part in name.parts if part != "__init__"): path for name, path in paths.items()}


def list_imports(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of the package that a file imports, at any place in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            base = (node.module or "").removeprefix(PACKAGE).removeprefix(".")
            for alias in node.names:
                name = f"{base}.{alias.name}".removeprefix(".")
                yield name if name in modules else base


def room_of(module: str) -> str:
    """Return a module's folder, or the module itself if it is at the top level."""
    return module.partition(".")[0]


def find_circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or in a cycle."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        pending = [start]
        while pending:
            for target in arrows.get(pending.pop(), set()) - seen:
                seen.add(target)
                pending.append(target)
        return seen

    reached = {module: reach(module) for module in arrows}
    groups = {
        tuple(sorted(other for other in reached[module] if module in reached.get(other, set())))
        for module in arrows
        if module in reached[module]
    }
    return [list(group) for group in sorted(groups)]


def print_table(root: Path) -> None:
    """Print one line for each folder, and the import cycles."""
    modules = list_modules(root)
    arrows = {name: set(list_imports(path, modules)) - {name, ""} for name, path in modules.items()}
    files: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    going_in: Counter[str] = Counter()
    going_out: Counter[str] = Counter()
    for name, path in modules.items():
        room = room_of(name)
        files[room] += 1
        lines[room] += len(path.read_text(encoding="utf-8").splitlines())
        for target in arrows[name]:
            if room_of(target) != room:
                going_out[room] += 1
                going_in[room_of(target)] += 1
    print(f"{'folder':16} {'files':>5} {'lines':>6} {'in':>4} {'out':>4}")
    for room in sorted(files):
        cells = f"{files[room]:5} {lines[room]:6} {going_in[room]:4} {going_out[room]:4}"
        print(f"{room or '(package)':16} {cells}")
    totals = f"{sum(files.values()):5} {sum(lines.values()):6} {going_in.total():4} {going_out.total():4}"
    print(f"{'all':16} {totals}")
    circles = find_circles(arrows)
    print(f"cycles: {len(circles)}", *(" ↔ ".join(circle) for circle in circles), sep="\n  ")


def main() -> None:
    """Print the table of this checkout, or of another copy of the package."""
    parser = build_parser("lab.package_imports", __doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / PACKAGE, help="the package's folder")
    print_table(parser.parse_args().folder)


if __name__ == "__main__":
    main()
