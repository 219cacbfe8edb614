"""A small data set on a local server."""

from faulty_server import server  # noqa: F401 (fixtures)
from fetch_world import world  # noqa: F401
