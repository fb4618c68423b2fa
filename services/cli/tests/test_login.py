"""Which server the program talks to, and with which token."""

import json
from pathlib import Path

from openqrm.gateway.app import GatewayService


async def test_logging_in_keeps_a_token_of_its_own(cli, site, gateway: GatewayService) -> None:
    password = (site.folder / "admin-password").read_text()
    (cli.state / "client.json").unlink()
    assert (await cli.run("whoami")).code == 1
    ran = await cli.run("login", gateway.url, "--user", "admin", "--password-stdin", stdin=password)
    assert ran.code == 0, ran.err
    path = Path(cli.env["XDG_CONFIG_HOME"]) / "openqrm" / "config.json"
    assert path.stat().st_mode & 0o777 == 0o600
    kept = json.loads(path.read_text())
    assert kept["url"] == gateway.url
    assert (await cli.run("whoami", "-o", "json")).json["credential"] == "token"
    assert (await cli.run("logout")).code == 0
    assert not path.exists()
    after = await cli.run("whoami", env={"OPENQRM_URL": gateway.url, "OPENQRM_TOKEN": kept["token"]})
    assert after.code == 3


async def test_wrong_passwords_and_tokens_are_not_kept(cli, gateway: GatewayService) -> None:
    ran = await cli.run("login", gateway.url, "--user", "admin", "--password-stdin", stdin="wrong\n")
    assert (ran.code, "do not belong together" in ran.err) == (3, True)
    ran = await cli.run("login", gateway.url, "--token", "-", stdin="oqrm_nonsense\n")
    assert ran.code == 3
    assert not (Path(cli.env["XDG_CONFIG_HOME"]) / "openqrm" / "config.json").exists()
    without = await cli.run("login", gateway.url)
    assert without.code == 2


async def test_a_token_goes_only_to_the_server_that_it_came_from(
    cli, gateway: GatewayService, admin_token: str
) -> None:
    assert (await cli.run("whoami", "--url", gateway.url)).code == 0
    other = gateway.url.replace("127.0.0.1", "localhost")
    ran = await cli.run("whoami", "--url", other)
    assert ran.code == 3
    ran = await cli.run("whoami", env={"OPENQRM_URL": other, "OPENQRM_TOKEN": admin_token})
    assert ran.code == 0


async def test_a_server_that_cannot_be_reached_is_named(cli) -> None:
    for arguments in (("whoami",), ("events", "--follow"), ("console", "x"), ("status",)):
        ran = await cli.run(*arguments, "--url", "http://127.0.0.1:9")
        assert ran.code == 1
        assert "http://127.0.0.1:9" in ran.err
        assert "make up" in ran.err
    ran = await cli.run("whoami", "--url", "ftp://x")
    assert (ran.code, "http" in ran.err) == (1, True)


async def test_nothing_known_says_what_to_do(cli) -> None:
    (cli.state / "client.json").unlink()
    ran = await cli.run("partition", "list")
    assert (ran.code, "openqrm login" in ran.err) == (1, True)
    (cli.state / "client.json").write_text("{")
    ran = await cli.run("partition", "list")
    assert (ran.code, "client.json" in ran.err) == (1, True)


async def test_what_is_not_openqrm_is_recognised(cli, site) -> None:
    ran = await cli.run("whoami", "--url", site.nats.url.replace("nats", "http"))
    assert ran.code == 1
    assert "Traceback" not in ran.err
