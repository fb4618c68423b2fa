"""The axe's own pure parts."""

from chaos.looking import read_domain
from chaos.model import Possible, World
from chaos.plan import Victim, Way, make_plan
from chaos.wire import AckSieve

DOMAIN = """
<domain type='qemu' id='2'>
  <name>web-6ff678d8</name>
  <uuid>01900000-0000-7000-8000-000000000001</uuid>
  <metadata><p:partition xmlns:p="https://openqrm.org/xmlns/libvirt/partition/1" epoch="3"/></metadata>
  <currentMemory unit='KiB'>65536</currentMemory>
  <vcpu placement='static' current='1'>4</vcpu>
  <devices>
    <disk type='file' device='disk'><source file='/lab/local/disks/a.qcow2'/></disk>
    <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/></interface>
  </devices>
</domain>
"""


def test_a_seed_is_a_plan() -> None:
    assert make_plan(5, seconds=45, with_qemu=True) == make_plan(5, seconds=45, with_qemu=True)
    assert make_plan(5, seconds=45, with_qemu=True) != make_plan(6, seconds=45, with_qemu=True)


def test_everybody_is_struck() -> None:
    for seed in range(50):
        faults = make_plan(seed, seconds=45, with_qemu=True).faults
        assert {fault.victim for fault in faults} == set(Victim)
        assert all(fault.seconds <= 30 for fault in faults)
        killed = {
            f.victim for f in make_plan(seed, seconds=20, with_qemu=False, kills_only=3).faults if f.way is Way.KILL
        }
        assert killed == {
            Victim.NATS,
            Victim.POSTGRES,
            Victim.INVENTORY,
            Victim.SCHEDULER,
            Victim.GATEWAY,
            Victim.EXECUTOR_FAKE,
        }


def test_only_the_acknowledgements_of_one_stream_are_lost_however_the_bytes_come() -> None:
    lost = b"PUB $JS.ACK.COMMANDS.inventory.1.2.3.4.0 4\r\n+ACK\r\n"
    kept = (
        b"PUB $JS.ACK.EVENTS.inventory.1.2.3.4.0 4\r\n+ACK\r\n"
        b"HPUB partition.start reply 10 21\r\nNATS/1.0\r\nPUB x\r\n1\r\n\r\nPING\r\n"
    )
    for size in range(1, 40):
        sieve = AckSieve()
        sieve.stream = "COMMANDS"
        through = sieve.framing()
        data = lost + kept + lost
        passed = b"".join(through(data[start : start + size]) for start in range(0, len(data), size))
        assert (passed, sieve.lost) == (kept, 2)


def test_what_failed_was_done_or_not() -> None:
    possible = Possible()
    possible.succeeded("create", {"memory_mib": 64, "vcpus": 1, "nics": [{"network": "a"}], "host": "f1"}, {})
    possible.failed("attach_nic", {"nic": {"network": "b"}}, {})
    one = World(exists=True, memory_mib=64, vcpus=1, networks=("a",), host="f1")
    assert possible.fits(one)
    possible.succeeded("detach_nic", {}, {"network": "b"})
    assert possible.fits(one), "it can only have been detached where it was attached"
    possible.succeeded("detach_nic", {}, {"network": "b"})
    assert not possible.worlds, "nobody can detach it twice"


def test_a_domain_is_read() -> None:
    seen = read_domain("kvm1", "running", DOMAIN)
    assert (seen.state, seen.epoch, seen.memory_mib, seen.vcpus, seen.disks) == ("running", 3, 64, 1, 1)
    assert seen.nics == (("52:54:00:00:00:01", "br0"),)
