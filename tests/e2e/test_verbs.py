"""Every verb of every noun, through HTTP, on the fake technology."""

from collections.abc import Awaitable, Callable

from installation import Client, Installation

from openqrm.testkit.waiting import eventually_async

MAC = "52:54:00:e2:e0:01"


async def test_a_partitions_life(admin: Client, name: str) -> None:
    made = await admin.partition(
        name, technology="fake", memory_max_mib=256, vcpus_max=4, nics=[{"network": "default"}]
    )
    path = f"/partitions/{made['id']}"
    assert (made["state"], made["host_name"] in ("h1", "h2"), made["epoch"]) == ("stopped", True, 1)
    assert made["nics"][0]["mac"].startswith("02:fa:4e:"), "from the technology's own range"
    for verb, body, state in (
        ("start", None, "running"),
        ("pause", None, "paused"),
        ("unpause", None, "running"),
        ("reboot", {"hard": True}, "running"),
        ("shutdown", {"timeout_seconds": 5}, "stopped"),
        ("start", {}, "running"),
        ("resize", {"memory_mib": 128, "vcpus": 2}, "running"),
        ("pin", {"cpu_pins": {"0": [1, 2]}}, "running"),
        ("stop", None, "stopped"),
    ):
        operation = await admin.run("POST", f"{path}/{verb}", body)
        assert operation["verb"] == f"partition.{verb}"
        found = await admin.get(path)
        assert found["state"] == state, verb
        assert found["drift"] == []
    assert (found["memory_mib"], found["vcpus"], found["cpu_pins"]) == (128, 2, {"0": [1, 2]})
    await admin.run("DELETE", path)
    assert (await admin.get(path))["state"] == "deleted"
    assert name not in {item["name"] for item in (await admin.get("/partitions", name=name))["items"]}


async def test_made_and_started_in_one(admin: Client, name: str) -> None:
    made = await admin.partition(name, technology="any", start=True, tags=["shop", "größe"])
    await admin.becomes(f"/partitions/{made['id']}", state="running")
    assert made["tags"] == ["shop", "größe"]
    await admin.run("DELETE", f"/partitions/{made['id']}", params={"force": "true"})


async def test_interfaces_and_disks(admin: Client, name: str) -> None:
    made = await admin.partition(name, disks=[{"source": {"kind": "blank", "size_mib": 10}}], start=True)
    path = f"/partitions/{made['id']}"
    await admin.becomes(path, state="running")
    await admin.run("POST", f"{path}/nics", {"nic": {"network": "default", "mac": MAC.upper()}})
    await admin.run("PUT", f"{path}/nics/{MAC}/network", {"network": "backup"})
    found = await admin.get(path)
    assert [(nic["mac"], nic["network_name"]) for nic in found["nics"]] == [(MAC, "backup")]
    await admin.refused("DELETE", "/networks/backup")
    await admin.run("DELETE", f"{path}/nics/{MAC}")
    await admin.run("POST", f"{path}/disks", {"disk": {"source": {"kind": "blank", "size_mib": 20}}})
    assert [disk["target"] for disk in (await admin.get(path))["disks"]] == ["vda", "vdb"]
    await admin.run("DELETE", f"{path}/disks/vdb", params={"keep": "true"})
    found = await admin.get(path)
    assert [disk["target"] for disk in found["disks"]] == ["vda"]
    assert found["nics"] == []
    resting = {item["mac"]: item["state"] for item in (await admin.get("/macs", state="quarantined"))["items"]}
    assert resting[MAC] == "quarantined"


async def test_it_moves_live_and_stopped(admin: Client, name: str) -> None:
    made = await admin.partition(name, host="h1", start=True)
    path = f"/partitions/{made['id']}"
    await admin.becomes(path, state="running")
    await admin.run("POST", f"{path}/migrate", {"host": "h2", "live": True})
    found = await admin.get(path)
    assert (found["host_name"], found["state"], found["epoch"] > made["epoch"]) == ("h2", "running", True)
    await admin.run("POST", f"{path}/migrate", {"live": False})
    assert (await admin.get(path))["host_name"] == "h1", "chosen by the scheduler"


async def test_a_running_migration_is_cancelled(admin: Client, name: str) -> None:
    made = await admin.partition(f"{name} !migrate-slow=30", host="h1", start=True)
    path = f"/partitions/{made['id']}"
    await admin.becomes(path, state="running")
    moving = await admin.call("POST", f"{path}/migrate", {"host": "h2"}, status=202)
    await admin.becomes(path, state="migrating")
    await admin.run("POST", f"/operations/{moving['id']}/cancel")
    ended = await admin.get(f"/operations/{moving['id']}", wait=20)
    assert ended["state"] == "cancelled"
    assert (await admin.becomes(path, state="running"))["host_name"] == "h1"


async def test_changes_that_need_no_host(admin: Client, name: str) -> None:
    made = await admin.partition(name)
    path = f"/partitions/{made['id']}"
    await admin.run("PATCH", path, {"name": f"{name} 2", "tags": ["a"], "on_crash": "stay"})
    found = await admin.get(f"/partitions/{name} 2")
    assert (found["id"], found["tags"], found["on_crash"]) == (made["id"], ["a"], "stay")


async def test_a_crashed_partition_is_started_again_and_not_for_ever(admin: Client, name: str) -> None:
    made = await admin.partition(f"{name} !crash-after=0.1", start=True)

    async def crashes() -> int:
        page = await admin.get("/events", subject="partition.crashed", resource=made["id"])
        return len(page["items"])

    await eventually_async(lambda: _is(crashes, 4), 30, "the start and three restarts")
    found = await admin.becomes(f"/partitions/{made['id']}", state="crashed", operation_id=None)
    assert found["desired_state"] == "running"
    assert await crashes() == 4


async def _is(count: Callable[[], Awaitable[int]], wanted: int) -> bool:
    return await count() == wanted


async def test_a_hosts_life(admin: Client, name: str) -> None:
    body = {"name": name, "technology": "fake", "connection": {"uri": f"fake://{name}?prepared=no"}, "tags": ["rack-4"]}
    failed = await admin.run("POST", "/hosts", body, "failed")
    assert "host.prepare" in failed["error"]["message"]
    path = f"/hosts/{name}"
    assert (await admin.get(path))["state"] == "enrolled"
    operation = await admin.run("POST", f"{path}/prepare")
    assert "fake-hypervisor" in str(operation["result"])
    found = await admin.becomes(path, state="ready")
    assert found["facts"]["cpus"] == 16
    await admin.run("PATCH", path, {"cpu_overcommit": 2.5, "tags": ["rack-5"]})
    assert (await admin.get(path))["cpu_overcommit"] == 2.5
    made = await admin.partition(name, host=name)
    assert made["host_name"] == name
    await admin.run("POST", f"{path}/maintain", {"evacuate": True})
    assert (await admin.get(path))["state"] == "maintenance"
    assert (await admin.get(f"/partitions/{made['id']}"))["host_name"] != name
    problem = await admin.run("POST", "/partitions", {"name": f"{name} 2", "memory_mib": 64, "host": name}, "failed")
    assert "maintenance" in problem["error"]["message"]
    await admin.run("POST", f"{path}/activate")
    assert (await admin.get(path))["state"] == "ready"
    await admin.run("DELETE", path)
    assert name not in {host["name"] for host in (await admin.get("/hosts"))["items"]}


async def test_networks(admin: Client, name: str) -> None:
    await admin.run("POST", "/networks", {"name": name, "bridge": "br2", "vlan": 42})
    await admin.run("PATCH", f"/networks/{name}", {"description": "für Kunden", "bridge": "br1"})
    found = await admin.get(f"/networks/{name}")
    assert (found["vlan"], found["bridge"], found["description"]) == (42, "br1", "für Kunden")
    assert name in {network["name"] for network in (await admin.get("/networks"))["items"]}
    await admin.run("DELETE", f"/networks/{name}")
    await admin.refused("GET", f"/networks/{name}", status=404)


async def test_images(admin: Client, site: Installation, name: str) -> None:
    content = b"\x00" * (3 * 1024 * 1024)
    operation = await admin.run("POST", "/images", params={"name": name, "format": "raw"}, content=content,
                                headers={"Content-Type": "application/octet-stream"})  # fmt: skip
    found = await admin.get(f"/images/{operation['target_id']}")
    assert (found["size_bytes"], found["virtual_size_mib"], found["format"]) == (len(content), 3, "raw")
    duplicate = await admin.refused("POST", "/images", params={"name": name}, content=content,
                                    headers={"Content-Type": "application/octet-stream"})  # fmt: skip
    assert duplicate["code"] == "duplicate"
    made = await admin.partition(name, disks=[{"source": {"kind": "image", "image": name}}])
    assert made["disks"][0]["source"]["image"] in (name, found["id"])
    assert name in {image["name"] for image in (await admin.get("/images"))["items"]}
    await admin.run("DELETE", f"/images/{name}")
    assert (await admin.request("GET", f"/images/{name}")).status_code == 404


async def test_addresses(admin: Client) -> None:
    key = {"Idempotency-Key": "printer"}
    one = await admin.call("POST", "/macs", {"technology": "fake", "note": "printer"}, status=201, headers=key)
    same = await admin.call("POST", "/macs", {"technology": "fake", "note": "printer"}, status=201, headers=key)
    assert one == same
    wished = await admin.call("POST", "/macs", {"technology": "fake", "mac": "02-FA-4E-FF-00-01"}, status=201)
    assert wished["mac"] == "02:fa:4e:ff:00:01"
    taken = await admin.refused("POST", "/macs", {"technology": "fake", "mac": wished["mac"]})
    assert wished["mac"] in taken["detail"]
    group = await admin.refused("POST", "/macs", {"technology": "fake", "mac": "ff:ff:ff:ff:ff:ff"}, status=422)
    assert group["fields"][0]["field"] == "mac"
    await admin.call("DELETE", f"/macs/{one['mac']}")
    await admin.call("DELETE", f"/macs/{one['mac']}")  # twice is harmless
    await admin.refused("DELETE", "/macs/02:fa:4e:00:00:ff", status=404)
    assert {item["note"] for item in (await admin.get("/macs", technology="fake"))["items"]} >= {"printer"}


async def test_what_is_read_only(admin: Client) -> None:
    resources = (await admin.get("/resources"))["items"]
    assert {"h1", "h2"} <= {resource["name"] for resource in resources}
    assert (await admin.get("/resources/h1"))["name"] == "h1"
    technologies = {item["name"]: item for item in (await admin.get("/technologies"))["items"]}
    assert technologies["fake"]["available"] is True
    assert technologies["fake"]["macs_free"] > 10_000_000
    assert technologies["xen"]["available"] is False, "known, and nobody serves it here"
    assert (await admin.get("/whoami"))["role"] == "admin"
    health = {"status": "ok", "bus": True, "database": True, "detail": ""}
    assert (await admin.request("GET", "/health")).json() == health
    assert "openQRM" in (await admin.request("GET", "/")).text
    assert "partitions" in (await admin.request("GET", "/docs")).text
