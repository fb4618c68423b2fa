"""Runs one function of a row's file in this process: `load.py rows.commands drive`, JSON in, JSON out.

The load has a process of its own, so that it can use another core, and so that its CPU can be told apart.
"""

import asyncio
import gc
import importlib
import json
import resource
import sys

import uvloop


def main() -> None:
    """The whole program."""
    module, name = sys.argv[1:]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    function = getattr(importlib.import_module(module), name)
    arguments = json.load(sys.stdin)
    gc.freeze()
    result = uvloop.run(function(**arguments)) if asyncio.iscoroutinefunction(function) else function(**arguments)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
