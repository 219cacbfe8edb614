import contextlib
import copyreg
import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskris.data.readers.pickles import UnsafePickleError, load_plain

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@pytest.fixture
def load(tmp_path):
    def write_and_load(content):
        (tmp_path / "refs(unc).p").write_bytes(content)
        return load_plain(tmp_path / "refs(unc).p")

    return write_and_load


@pytest.mark.parametrize("protocol", range(3, 6))
@given(value=plain)
def test_plain_values_load(tmp_path_factory, value, protocol):
    path = tmp_path_factory.getbasetemp() / "plain.p"
    path.write_bytes(pickle.dumps(value, protocol))
    assert load_plain(path) == value


class Call:
    """Pickles to a call of any function."""

    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (lambda flag: Call(os.system, f"touch {flag}"), "system"),
        (lambda flag: Call(eval, f"open({str(flag)!r}, 'w')"), "eval"),
        (lambda flag: Call(getattr, "text", "upper"), "getattr"),
        (lambda flag: np.zeros(3), "numpy"),
        (lambda flag: np.float64(1), "numpy"),
        (lambda flag: [{"ref_id": np.int64(3)}], "numpy"),
        (lambda flag: os.path.join, "join"),
        (lambda flag: 1j, "complex"),
    ],
)
def test_everything_else_is_refused_by_name_and_nothing_executes(load, tmp_path, value, name, protocol):
    flag = tmp_path / "executed"
    content = pickle.dumps(value(flag), protocol)
    with pytest.raises(UnsafePickleError, match=rf"refs\(unc\)\.p: refused.*{name}"):
        load(content)
    assert not flag.exists()


@pytest.mark.parametrize(
    "content", [b"(S'true'\nios\nsystem\n.", b"cos\nsystem\n(S'true'\ntR.", b"(cos\nsystem\nS'true'\no."]
)
def test_old_opcodes_that_build_objects_are_refused(load, content):
    with pytest.raises(UnsafePickleError, match=r"os\.system"):
        load(content)


@pytest.mark.parametrize("content", [b"Pabc\n.", b"\x80\x02U\x03abcQ."])
def test_persistent_ids_are_refused(load, content):
    with pytest.raises(UnsafePickleError, match="persistent object 'abc'"):
        load(content)


@pytest.mark.parametrize("cached", [False, True])
def test_registered_extensions_are_refused(load, cached):
    copyreg.add_extension("os", "system", 0xF1)
    try:
        content = pickle.dumps(os.system, 2)
        assert b"\x82\xf1" not in content  # os.system calls itself posix.system
        content = b"\x80\x02\x82\xf1."
        if cached:
            assert pickle.loads(content) is os.system  # now the C unpickler would answer without asking find_class
        with pytest.raises(UnsafePickleError, match="registered extension 241"):
            load(content)
    finally:
        copyreg.remove_extension("os", "system", 0xF1)
        copyreg.clear_extension_cache()
    with pytest.raises(ValueError, match="unregistered extension"):
        load(b"\x80\x02\x82\xf1.")


@pytest.mark.parametrize("value", [{1, 2}, frozenset([1]), [bytearray(b"x")], {"a": ({"b": {3}},)}])
def test_containers_that_need_no_name_are_refused_too(load, value):
    with pytest.raises(UnsafePickleError, match=r"set|bytearray"):
        load(pickle.dumps(value, 5))


def test_strings_of_python_2_become_str(load):
    assert load(b"(lp0\nS'caf\\xe9'\np1\naVna\\u00efve\np2\naI01\naL5L\na.") == ["café", "naïve", True, 5]
    utf8, latin1 = "zoë".encode(), "zoë".encode("latin-1")
    binary = b"\x80\x02]q\x00(U" + bytes([len(utf8)]) + utf8 + b"T" + struct.pack("<i", len(latin1)) + latin1 + b"e."
    assert load(binary) == ["zoë", "zoë"]
    assert load(b"\x80\x02}q\x00U\x04sentU\x03mans.") == {"sent": "man"}


@given(st.binary(max_size=60))
def test_damaged_files_are_value_errors(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "damaged.p"
    path.write_bytes(content)
    with contextlib.suppress(ValueError):  # nothing else may come out, and nothing may crash
        load_plain(path)


def test_cycles_and_shared_parts_end(load):
    cycle: list = []
    cycle.append(cycle)
    assert load(pickle.dumps(cycle))[0][0] is not None
    laughs: list = ["ha"]
    for _ in range(60):
        laughs = [laughs, laughs]
    assert len(load(pickle.dumps(laughs))) == 2


def test_the_real_files_load(shared):
    refs = load_plain(shared / "data/refcoco_mini/refcoco/refs(unc).p")
    assert len(refs) == 676
    assert refs[0]["sentences"][0]["sent"] == "biggest train"
