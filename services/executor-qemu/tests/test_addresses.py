from typing import Any

import pytest

from openqrm.contracts.errors import InvalidError
from openqrm.contracts.host import HostConnection
from openqrm.executor_qemu.addresses import Transport, expected_fingerprints, parse_address, unknown_host_key

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5b8eo2KkLXvYwS1X9q0q0JwNY3YHRv0yM1rW2d3f4g"


def connection(uri: str, **options: Any) -> HostConnection:
    return HostConnection(uri=uri, options=options)


def test_ssh() -> None:
    address = parse_address(connection("qemu+ssh://admin@kvm1:2222/system"))
    assert (address.transport, address.hostname, address.port, address.user) == (Transport.SSH, "kvm1", 2222, "admin")
    assert "/run/libvirt/libvirt-sock" in address.sockets


def test_the_ports_and_the_user_have_defaults() -> None:
    assert parse_address(connection("qemu+ssh://kvm1/system")).user == "root"
    assert parse_address(connection("qemu+ssh://kvm1/system")).port == 22
    assert parse_address(connection("qemu+tls://kvm1/system")).port == 16514
    assert parse_address(connection("qemu+tcp://kvm1/system", allow_plain_tcp="yes")).port == 16509


def test_an_ipv6_address() -> None:
    assert parse_address(connection("qemu+ssh://root@[fd00::1]/system")).hostname == "fd00::1"


def test_a_socket_can_be_named() -> None:
    assert parse_address(connection("qemu:///system?socket=/tmp/s")).sockets == ("/tmp/s",)  # noqa: S108


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("xen://h/system", "scheme"),
        ("qemu+tcp://h/system", "allow_plain_tcp"),
        ("qemu+ssh://h/session", "/system"),
        ("qemu+ssh:///system", "host name"),
        ("qemu://h/system", "no host name"),
        ("qemu+ssh://root:secret@h/system", "password"),
        ("qemu+ssh://h/system?no_verify=1", "no_verify"),
        ("qemu+tls://h/system?socket=/x", "socket"),
        ("qemu+ssh://h:99999/system", "ort"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(uri: str, words: str) -> None:
    with pytest.raises(InvalidError, match=words) as caught:
        parse_address(connection(uri))
    assert caught.value.fields[0].field == "connection.uri"


def test_a_key_and_its_fingerprint_mean_the_same() -> None:
    (fingerprint,) = expected_fingerprints(KEY + " root@kvm1")
    assert fingerprint.startswith("SHA256:")
    assert expected_fingerprints(f"{fingerprint}\n{KEY}\n") == {fingerprint}


@pytest.mark.parametrize("text", ["MD5:aa:bb", "ssh-ed25519", "ssh-ed25519 not*base64"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="host key"):
        expected_fingerprints(text)


def test_an_unknown_key_says_how_to_accept_it() -> None:
    words = unknown_host_key("web 1", ("SHA256:abc",), known=False)
    assert "openqrm host change 'web 1' --host-key 'SHA256:abc'" in words
