"""The layers: each imports only from those before it, and only two of them know Numba and LLVM."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dnnc"

#: The order of docs/architecture.md. A layer may import from itself and from those before it.
LAYERS = (
    "diagnostics",
    "environment",
    "cache",
    "syntax",
    "ir",
    "tuning",
    "ops",
    "autodiff",
    "std",
    "elaborate",
    "passes",
    "kernels",
    "program",
    "data",
    "train",
    "model",
    "cli",
)
#: Everything may be named from the package's face, which imports on first use.
FACE = ("__init__", "__main__")
COMPILED = {"kernels", "program"}
FORBIDDEN_NAMES = {"utils", "helpers", "common"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    """`dnnc.ir.graph` of the file, `dnnc.ir` of a package's `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> list[tuple[str, int]]:
    """Every imported module with its line, whether at the top or inside a function."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.extend((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from dnnc import ops` names a layer, `from dnnc.ir import graph` a module of one.
            found.extend((f"{module}.{alias.name}", node.lineno) for alias in node.names)
    return found


def layer(module: str) -> str | None:
    """The layer of a dotted module name of this package; None for others and for its face."""
    parts = module.split(".")
    if parts[0] != "dnnc" or len(parts) < 2:
        return None
    return parts[1] if parts[1] in LAYERS else None


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_layer_imports_only_from_those_before_it(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own in FACE:
        return
    assert own in LAYERS, f"{path} stands in no layer of docs/architecture.md"
    allowed = set(LAYERS[: LAYERS.index(own) + 1])
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {own} imports {target}"
        for target, line in imports(path)
        if (used := layer(target)) is not None and used not in allowed
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_only_kernels_and_program_know_the_code_generators(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0]
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {target}"
        for target, line in imports(path)
        if target.split(".")[0] in {"numba", "llvmlite"} and own not in COMPILED
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_no_star_imports(path: Path) -> None:
    assert not [line for target, line in imports(path) if target.endswith(".*")]


def test_the_code_generating_layers_raise_no_diagnostics() -> None:
    # `dnnc explain` and the page of codes do not look there.
    for path in MODULES:
        if path.relative_to(PACKAGE).parts[0] in COMPILED:
            assert "register_codes" not in path.read_text(encoding="utf-8"), path


def test_no_module_is_named_for_nothing() -> None:
    assert not [path for path in MODULES if path.stem in FORBIDDEN_NAMES]


def test_the_order_is_that_of_the_documentation() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split("<!-- layers -->")[1]
    assert tuple(word for line in table.splitlines() for word in line.split("`")[1:2]) == LAYERS
