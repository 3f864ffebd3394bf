"""The tables of what has a name."""

import inspect

import pytest

from rlzoo import tables
from rlzoo.tables import Table

TABLES = {name: table for name, table in vars(tables).items() if isinstance(table, Table)}


def test_an_entry_is_imported_when_it_is_asked_for():
    table = Table({"here": "json:dumps", "kinds": {"one": "json:loads"}, "thing": 3})
    import json

    assert table.data["here"] == "json:dumps" and list(table) == ["here", "kinds", "thing"]
    assert table["here"] is json.dumps and table["kinds"] == {"one": json.loads}
    assert table["thing"] == 3 and next(iter(table.values())) is json.dumps
    assert "no" not in table and table.get("no") is None
    with pytest.raises(KeyError):
        _ = table["no"]


@pytest.mark.parametrize("name", [name for name in TABLES if name != "BRIDGED"])
def test_every_entry_is_there(name):
    for entry in TABLES[name].values():
        for thing in entry.values() if isinstance(entry, dict) else [entry]:
            assert inspect.isclass(thing) or inspect.isfunction(thing)


def test_no_name_means_two_things():
    """`rlzoo list NAME` needs no kind."""
    kinds = [table for name, table in TABLES.items() if name != "BRIDGED"]
    names = [name for table in (*kinds, tables.BRIDGED, tables.ENVS) for name in table]
    assert len({*names}) == len(names)
