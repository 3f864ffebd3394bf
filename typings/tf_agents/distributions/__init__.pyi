# TF-Agents has types that are wrong for tensors.
from typing import Any

def __getattr__(name: str) -> Any: ...
