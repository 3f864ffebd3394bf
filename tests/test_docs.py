"""Every command and every block of code in the README and the pages about agents runs."""

import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "README.md",
    "docs/first-steps.md",
    "docs/environments.md",
    "docs/own-agent.md",
    "docs/run-folder.md",
    "docs/gpu.md",
    "docs/pretraining.md",
    "docs/migrating-from-tf-agents.md",
    *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs/agents").glob("*.md")),
]
ENTRY_POINTS = {"scripts/train", "scripts/test"}  # test_learning.py runs the one; this is the other
BIN = Path(sys.executable).parent


def blocks(page: str) -> list[tuple[str, str]]:
    """Returns (language, text) of each fenced block of a page, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


def run(command: list[str], folder: Path) -> None:
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def serves(command: list[str], folder: Path) -> None:
    """Checks that TensorBoard comes up on the folder, and stops it."""
    server = subprocess.Popen(
        [str(BIN / command[0]), *command[1:], "--port", "0"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline, address = time.monotonic() + 120, None
        for line in server.stderr or ():
            if found := re.search(r"http://localhost:(\d+)/", line):
                address = f"http://localhost:{found[1]}/data/runs"
                break
            assert time.monotonic() < deadline, line
        assert address
        while True:
            with urllib.request.urlopen(address, timeout=30) as reply:
                if b"first" in reply.read():
                    return
            assert time.monotonic() < deadline, "TensorBoard shows no run"
            time.sleep(1)
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("page", PAGES)
def test_every_block_runs(page, tmp_path):
    ran = 0
    for language, text in blocks(page):
        if language == "python" and (name := re.match(r"# (\w+\.py)\n", text)):
            (tmp_path / name[1]).write_text(text)  # a file that later blocks use
            continue
        if language == "python":
            run([sys.executable, "-W", "error:::rlzoo", "-c", text], tmp_path)
            ran += 1
            continue
        assert language == "bash"
        for line in text.splitlines():
            command = shlex.split(line, comments=True)
            if not command or command[0] in ENTRY_POINTS:
                continue
            (serves if command[0] == "tensorboard" else run)(command, tmp_path)
            ran += 1
    assert ran


def test_every_page_with_code_is_run():
    pages = [str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")]
    coded = {page for page in pages if {"bash", "python"} & {kind for kind, _ in blocks(page)}}
    assert coded == set(PAGES) - {"README.md"}


def test_links_lead_somewhere():
    for page in [*PAGES, *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text().replace("\n", " ")):
            if not target.startswith("http"):
                assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"


def test_quoted_messages_are_in_the_source():
    source = "".join(path.read_text() for path in (ROOT / "rlzoo").rglob("*.py"))
    source = re.sub(r'"\s*f?"', "", source)  # texts over several lines
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "docs/troubleshooting.md").read_text(), re.M)
    quoted = [text for row in rows for text in re.findall(r"`([^`]*)`", row) if " " in text]
    assert len(quoted) > 15
    for text in quoted:
        for part in text.split("..."):
            assert part.strip() in source, text


def test_entry_points_of_the_readme_exist():
    commands = {text for language, text in blocks("README.md") if language == "bash"}
    assert any(set(text.split()) >= ENTRY_POINTS for text in commands)
    for script in ENTRY_POINTS:
        assert os.access(ROOT / script, os.X_OK)
