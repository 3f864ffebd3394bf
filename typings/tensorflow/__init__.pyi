# TensorFlow ships no types, and the stubs that pyright brings know only part of it.
from typing import Any

def __getattr__(name: str) -> Any: ...
