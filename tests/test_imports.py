"""The direction of imports, and what the package never does, read from its source."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import rlzoo

ROOT = Path(rlzoo.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Part of the package -> the parts it may import. Parts not named here fail the test: add them.
AGENTS = {
    "agents",
    "data",
    "envs",
    "exploration",
    "networks",
    "ops",
    "replay",
    "spaces",
    "tables",
    "text",
    "types",
}
ALLOWED = {
    "types": set(),
    "compile_cache": set(),
    "quiet": {"compile_cache"},
    "frames": set(),
    "spaces": set(),
    "text": set(),
    "tables": {"text"},
    "ops": {"tables", "spaces", "types"},
    "networks": {"ops", "tables", "spaces", "text", "types"},
    "replay": {"ops", "spaces", "text", "types"},
    "exploration": {"ops", "tables", "spaces", "text", "types"},
    "agents": {"exploration", "replay", "networks", "ops", "tables", "spaces", "text", "types"},
    "data": {"text", "types"},
    "envs": {"data", "frames", "ops", "tables", "spaces", "text", "types"},
    "tasks": {"data", "envs", "networks", "ops", "tables", "spaces", "text", "types"},
    "storage": set(),
    "config": {"storage", *AGENTS},
    "loops": {"compile_cache", "config", "quiet", *AGENTS},
    "reports": {"config", "storage", "envs", "tables", "text"},
    "runs": {"config", "loops", "reports", "storage", *AGENTS},
    "pretraining": {"runs", "config", "reports", "storage", "tasks", *AGENTS},
    "interop": {"config", *AGENTS},
    "cli": {
        "",
        "config",
        "envs",
        "frames",
        "interop",
        "pretraining",
        "quiet",
        "reports",
        "runs",
        "storage",
        "tables",
        "text",
    },
    "": {"quiet", "pretraining", "reports", "runs"},  # rlzoo/__init__.py
}
BANNED_MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
# Our own exports and tables; an id the user typed.
IMPORT_BY_NAME = {"__init__.py", "tables.py", "envs/making.py"}


def module_name(path: Path) -> str:
    parts = ["rlzoo", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imports(tree: ast.AST, package: str):
    """Yields the modules that the import statements under `tree` name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, base]).rstrip(".")
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield name if name in MODULES else base


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def package_of(path: Path) -> str:
    name = module_name(path)
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    own = part(module_name(path))
    assert own in ALLOWED, f"say in ALLOWED what rlzoo.{own} may import"
    for name in imports(parse(path), package_of(path)):
        if name.split(".")[0] == "rlzoo" and part(name) != own:
            assert part(name) in ALLOWED[own], f"{path.name} imports {name}"


def test_no_cycles():
    """Follows every import, also inside functions; not what only a type checker reads."""

    class WithoutTypes(ast.NodeTransformer):
        def visit_If(self, node):
            return None if "TYPE_CHECKING" in ast.dump(node.test) else self.generic_visit(node)

    graph = {}
    for name, path in MODULES.items():
        tree = WithoutTypes().visit(parse(path))
        graph[name] = {m for m in imports(tree, package_of(path)) if m in MODULES and m != name}
    finished, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in finished:
            path.append(name)
            for other in sorted(graph[name]):
                visit(other)
            path.pop()
            finished.add(name)

    for name in graph:
        visit(name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unsafe(path):
    relative = path.relative_to(ROOT).as_posix()
    tree = parse(path)
    for name in imports(tree, package_of(path)):
        assert name.split(".")[0] not in BANNED_MODULES, name
        if not relative.startswith("interop/"):
            assert not name.startswith("tensorflow.keras"), name
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: raise ValueError instead"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "compile", "__import__"}, called
            assert called not in {"yaml.load", "yaml.unsafe_load", "yaml.full_load"}, called
            if called.endswith("import_module"):
                assert relative in IMPORT_BY_NAME, f"{relative} imports by name"
            for keyword in node.keywords:
                text = f"{keyword.arg}={ast.unparse(keyword.value)}"
                assert text not in {"allow_pickle=True", "safe_mode=False"}, text
        if isinstance(node, ast.Attribute) and not relative.startswith("interop/"):
            assert ast.unparse(node) != "tf.keras"


def test_light_modules_import_no_tensorflow():
    """Worker processes and the command line's own checks stay cheap."""
    code = (
        "import sys, rlzoo, rlzoo.types, rlzoo.data, rlzoo.envs\n"
        "import rlzoo.config.resolve, rlzoo.cli.commands\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_is_lazy_and_complete():
    assert sorted(dir(rlzoo)) == sorted([*rlzoo.__all__, "__version__"])
    assert inspect.isfunction(rlzoo.train)
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = rlzoo.nothing_such
