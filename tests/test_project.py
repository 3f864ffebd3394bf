"""The project's own files: scripts, lock, licence, what a wheel holds."""

import configparser
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.mark.parametrize("name", ["scripts/setup", "scripts/train", "scripts/test", ".ci/run"])
def test_scripts_are_executable_and_parse(name):
    assert os.access(ROOT / name, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / name], check=True)


def test_the_lock_covers_what_is_required():
    locked = dict(
        re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text(), re.M)
    )
    locked = {name.lower().replace("_", "-") for name in locked}
    config = setup()
    required = config["options"]["install_requires"] + config["options.extras_require"]["dev"]
    for line in filter(None, required.splitlines()):
        assert re.match(r"[\w-]+", line)[0].lower() in locked, line


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0" in text and len(text) > 11_000


def test_every_file_says_the_same_version():
    version = setup()["metadata"]["version"]
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    headings = re.findall(r"^## (.*)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == "Unreleased" and version in headings


def test_no_text_says_that_rlzoo_is_on_an_index():
    """The name there is a stranger's: `pip install rlzoo` would bring something else."""
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "rlzoo").rglob("*.py")]
    for path in texts:
        assert not re.search(r"pip install ['\"]?rlzoo", path.read_text()), path


def test_data_files_are_in_the_wheel():
    declared = setup()["options.package_data"]["rlzoo"]
    assert "py.typed" in declared and "presets/*.yaml" in declared
    assert (ROOT / "rlzoo" / "py.typed").is_file()
