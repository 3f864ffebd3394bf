"""These tests need TF-Agents; without the extra they are not collected."""

import importlib.util

if importlib.util.find_spec("tf_agents") is None:
    collect_ignore_glob = ["test_*.py"]
