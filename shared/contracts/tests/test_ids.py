"""Identifiers and names."""

import pytest
from pydantic import TypeAdapter, ValidationError

from openqrm.contracts.ids import MacAddress, Name, Tag, Technology, is_id, new_id


def test_later_ids_sort_after_earlier_ones():
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(ids)
    assert ids[0].version == 7
    assert is_id(str(ids[0]))
    assert is_id(str(ids[0]).upper())
    assert not is_id(ids[0].hex)


@pytest.mark.parametrize("name", ["web 1", "Büro-Server", "数据库", "a" * 200, "50% / ½"])
def test_names_may_be_any_text(name):
    assert TypeAdapter(Name).validate_python(name) == name


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "at least one visible character"),
        (" web", "white space"),
        ("a" * 201, "at most 200 characters, this one has 201"),
        ("we\nb", "control characters"),
        ("we\u202eb", "control characters"),
        ("019cec77-6600-7000-8000-000000000001", "must not look like an id"),
    ],
)
def test_names_that_nobody_could_use(name, complaint):
    with pytest.raises(ValidationError, match=complaint):
        TypeAdapter(Name).validate_python(name)


def test_names_are_normalised():
    assert TypeAdapter(Name).validate_python("Bu\u0308ro") == "Büro"


def test_mac_addresses_have_one_form():
    assert TypeAdapter(MacAddress).validate_python("52-54-00-AB-CD-EF") == "52:54:00:ab:cd:ef"
    with pytest.raises(ValidationError, match="group"):
        TypeAdapter(MacAddress).validate_python("01:00:5e:00:00:01")


@pytest.mark.parametrize("word", ["Qemu", "1qemu", "qe.mu", "", "a" * 33, "q*"])
def test_a_technology_is_a_token_of_subjects(word):
    with pytest.raises(ValidationError):
        TypeAdapter(Technology).validate_python(word)


def test_a_tag_has_no_comma():
    with pytest.raises(ValidationError, match="no comma"):
        TypeAdapter(Tag).validate_python("a,b")
