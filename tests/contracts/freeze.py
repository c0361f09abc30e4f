"""Freezes the shape of an event type that is new: `python -m tests.contracts.freeze enquiry.received.v2`.

What is frozen stays: a changed shape is a new version, so an existing schema is never written again.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import shared.contracts
from shared.contracts.cloudevents import EVENT_TYPES, CloudEvent

SAMPLES = Path(__file__).parent / "samples"


def event_types() -> dict[str, type[CloudEvent]]:
    """Every event type services say, by its written name; importing the modules is what registers them."""
    for module in iter_modules(shared.contracts.__path__):
        import_module(f"shared.contracts.{module.name}")
    spoken = {name: kind for name, kind in EVENT_TYPES.items() if kind.__module__.startswith("shared.")}
    return dict(sorted(spoken.items()))


def schema_of(kind: type[CloudEvent]) -> Any:
    """What a consumer accepts, as JSON Schema, without the words for people."""
    return _without_words(kind.model_json_schema(mode="validation"))


def _without_words(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_words(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):  # here keys are names, and a field may well be called `title`
            kept[key] = {name: _without_words(item) for name, item in value.items()}
        elif key not in ("title", "description"):
            kept[key] = _without_words(value)
    return kept


def main() -> None:
    for name in sys.argv[1:]:
        path = SAMPLES / f"{name}.schema.json"
        with path.open("x", encoding="utf-8") as file:
            json.dump(schema_of(event_types()[name]), file, indent=1, sort_keys=True)
            file.write("\n")
        print(f"{path} written; now write {name}.json, a realistic sample, by hand")


if __name__ == "__main__":
    main()
