# Keras ships no types; those inferred from its defaults are wrong (an initializer "is a str").
from typing import Any

def __getattr__(name: str) -> Any: ...
