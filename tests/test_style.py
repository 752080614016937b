"""Style of the code: ruff, mypy, sizes, order of the packages, links between documents."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "aocr").rglob("*.py"))
SOURCES = [*MODULES, *(path for name in ("datasets", "tests")
                       for path in sorted((ROOT / name).rglob("*.py")))]
DOCUMENTS = [ROOT / "README.md", *(path for name in ("aocr", "datasets", "tests", ".github")
                                   for path in sorted((ROOT / name).rglob("*.md")))]


@pytest.mark.parametrize("words", [["ruff", "check", "."], ["mypy", "aocr", "tests"]])
def test_ruff_and_mypy_pass(words: list[str]) -> None:
    process = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True,
                             text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_modules_and_functions_are_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name
            parameters = {parameter.arg for parameter in node.args.args + node.args.kwonlyargs}
            assert len(parameters - {"self", "cls"}) < 8, node.name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_module_catches_every_exception(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            quiet_import = path.stem == "startup" and caught == "BaseException"
            assert quiet_import or caught not in ("everything", "Exception", "BaseException")


def test_imports_only_point_down() -> None:
    layers = [{"errors"}, {"config", "tokenizer", "runtime"}, {"model", "images"},
              {"data", "checkpoints"}, {"inference"}, {"evaluation", "serving"}, {"training"},
              {"cli"}, {"__main__"}]
    level = {name: n for n, names in enumerate(layers) for name in names}
    for path in MODULES:
        package = path.relative_to(ROOT / "aocr").parts[0].removesuffix(".py")
        if package == "__init__":
            continue
        for imported in _imported_packages(path):
            assert imported == package or level[imported] < level[package], (path, imported)


def _imported_packages(path: Path) -> set[str]:
    """Packages and root modules of aocr that a file imports."""
    packages = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "aocr":
            packages |= {alias.name for alias in node.names if alias.name != "__version__"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aocr."):
            packages.add((node.module or "").split(".")[1])
    return packages


def test_every_file_of_the_package_is_installed() -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    (data,) = re.findall(r"package_data=({.*?}),\n", setup, re.DOTALL)
    installed = {path for package, patterns in ast.literal_eval(data).items()
                 for pattern in patterns
                 for path in (ROOT / package.replace(".", "/")).glob(pattern)}
    files = {path for path in (ROOT / "aocr").rglob("*") if path.is_file()
             and path.suffix not in (".py", ".md") and "__pycache__" not in path.parts}
    assert files == installed


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_modules_in_documents_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", prose):
        path = document.parent / target if target else document
        assert path.exists(), target
        assert not anchor or anchor in _anchors(path), f"{target}#{anchor}"
    packages = {path.parent.name for path in MODULES}
    for package, module in re.findall(r"`(?:aocr/)?(\w+)/(\w+\.py)`", text):
        assert package not in packages - {"aocr"} or (ROOT / "aocr" / package / module).exists()


def _anchors(document: Path) -> set[str]:
    """Anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
