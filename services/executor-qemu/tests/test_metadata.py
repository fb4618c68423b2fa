import xml.etree.ElementTree as ET

import pytest

from openqrm.executor_qemu.domain_reading import parse_xml
from openqrm.executor_qemu.metadata import HELD_RUNNING, Marks, read_marks, render_marks_text, with_marks

ALL = Marks(7, making=frozenset({"b", "a"}), held=HELD_RUNNING, guest_vcpus=2)


@pytest.mark.parametrize("marks", [Marks(1), ALL, ALL.without_making("a"), Marks(3).with_making("x")])
def test_what_is_written_is_read(marks: Marks) -> None:
    domain = parse_xml("<domain><metadata><other xmlns='urn:x'/></metadata></domain>")
    with_marks(domain, Marks(99))
    with_marks(domain, marks)
    again = parse_xml(ET.tostring(domain))
    assert read_marks(again) == marks
    assert again.find("metadata/{urn:x}other") is not None


def test_a_stranger_has_none() -> None:
    assert read_marks(parse_xml("<domain/>")) is None


def test_for_libvirt_it_is_one_element_without_a_namespace() -> None:
    assert render_marks_text(Marks(4)) == '<partition epoch="4" />'
