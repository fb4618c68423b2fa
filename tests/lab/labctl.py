#!/usr/bin/env python3
"""Brings the lab of real QEMU hosts up and down, and breaks it on purpose; see README.md."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from qemu_lab import Lab, LabError


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description="openQRM's lab: several QEMU hosts on this machine")
    commands = top.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the lab; harmless if it runs")
    up.add_argument("--hosts", type=int, default=3, metavar="N", help="hypervisor hosts kvm1 to kvmN (3)")
    up.add_argument("--kvm", action="store_true", help="give the hosts /dev/kvm; otherwise they emulate")
    commands.add_parser("down", help="end it and remove every trace")
    commands.add_parser("status", help="who runs")
    execute = commands.add_parser("exec", help="run a command inside a host, or in the controller's network (ctl)")
    execute.add_argument("name")
    execute.add_argument("arguments", nargs=argparse.REMAINDER, metavar="command")
    for command, text in {
        "kill": "cut a host's power, silently",
        "start": "give it back",
        "freeze": "hang a host with all its guests",
        "thaw": "let it go on",
    }.items():
        commands.add_parser(command, help=text).add_argument("name")
    link = commands.add_parser("link", help="plug or pull a cable")
    link.add_argument("name")
    link.add_argument("state", choices=["up", "down"])
    link.add_argument("network", choices=["mgmt", "san"], nargs="?", default="mgmt")
    return top


def perform(lab: Lab, options: argparse.Namespace) -> None:
    """Does what the command line says."""
    began = time.monotonic()
    match options.command:
        case "up":
            done = "is up" if lab.up(options.hosts, kvm=options.kvm) else "was up already"
            print(f"lab {done} after {time.monotonic() - began:.1f} s: {' '.join(lab.members)}")
        case "down":
            lab.down()
            print(f"lab is down after {time.monotonic() - began:.1f} s")
        case "status":
            for host in lab.hosts:
                print(f"{host.name:6}{host.role:12}{host.address:14}{'on' if lab.is_on(host.name) else 'off'}")
        case "exec":
            command = lab.command(options.name, options.arguments or ["/bin/bash"])
            os.execvp(command[0], command)  # noqa: S606 - the lab's own command line
        case "kill":
            lab.power_cut(options.name)
        case "start":
            lab.start(options.name)
        case "freeze":
            lab.freeze(options.name)
        case "thaw":
            lab.thaw(options.name)
        case "link":
            lab.link(options.name, up=options.state == "up", net=options.network)


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        perform(Lab(), options)
    except LabError as error:
        print(f"labctl: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
