"""The server that does everything wrong."""

from faulty_server import server  # noqa: F401 (a fixture)
