"""SSH keys and TLS certificates: one SSH key for the controller and the hosts, one certificate per member."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from qemu_lab.plan import Member, Role
from qemu_lab.shell import run

VALID_DAYS = 30
AUTHORITY_REQUEST = """
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = openQRM lab authority
[extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
MEMBER_REQUEST = """
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
O = openQRM lab
CN = {name}
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = DNS:{name}, IP:{address}, IP:{san_address}
"""


class Keys:
    """The lab's keys below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def ssh_key(self) -> Path:
        """The private key that every host accepts for root."""
        return self._folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The hosts' public keys by address and name, in OpenSSH's known_hosts form."""
        return self._folder / "known_hosts"

    def host_key(self, name: str) -> Path:
        """The private key of a host's sshd."""
        return self._folder / "ssh" / name

    def pki(self, name: str) -> Path:
        """A member's folder for libvirt's `pkipath`: {ca,client,server}cert.pem and {client,server}key.pem."""
        return self._folder / "pki" / name

    def create(self, members: Iterable[Member]) -> None:
        """Makes all of them."""
        everyone = list(members)
        (self._folder / "ssh").mkdir(parents=True)
        authority = self._folder / "authority"
        authority.mkdir()
        _certificate(authority / "cert.pem", authority / "key.pem", AUTHORITY_REQUEST, [])
        issued_by = ["-CA", str(authority / "cert.pem"), "-CAkey", str(authority / "key.pem")]
        _ssh_key(self.ssh_key, "openQRM lab")
        # RSA keys take a while to find; openssl runs beside us.
        with ThreadPoolExecutor() as pool:
            for result in [pool.submit(self._member, member, authority, issued_by) for member in everyone]:
                result.result()
        self.known_hosts.write_text(
            "".join(self._known_host(member) for member in everyone if member.role is not Role.CONTROLLER)
        )

    def _member(self, member: Member, authority: Path, issued_by: list[str]) -> None:
        _ssh_key(self.host_key(member.name), member.name)
        pki = self.pki(member.name)
        pki.mkdir(parents=True)
        (pki / "cacert.pem").write_bytes((authority / "cert.pem").read_bytes())
        request = MEMBER_REQUEST.format(name=member.name, address=member.address, san_address=member.san_address)
        _certificate(pki / "clientcert.pem", pki / "clientkey.pem", request, issued_by)
        (pki / "servercert.pem").write_bytes((pki / "clientcert.pem").read_bytes())
        (pki / "serverkey.pem").touch(0o600)
        (pki / "serverkey.pem").write_bytes((pki / "clientkey.pem").read_bytes())

    def _known_host(self, member: Member) -> str:
        public = self.host_key(member.name).with_suffix(".pub").read_text().split()
        return f"{member.name},{member.address},{member.san_address} {public[0]} {public[1]}\n"


def _ssh_key(file: Path, comment: str) -> None:
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(file)])


def _certificate(certificate: Path, key: Path, request: str, issued_by: list[str]) -> None:
    configuration = certificate.with_suffix(".cnf")
    configuration.write_text(request)
    # RSA: libvirt refuses an elliptic key ('usage does not permit key encipherment').
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(VALID_DAYS)]
    run([*command, "-config", str(configuration), "-keyout", str(key), "-out", str(certificate), *issued_by])
    key.chmod(0o600)
    configuration.unlink()
