"""`python -m openqrm.cli`."""

from openqrm.cli.main import main

main()
