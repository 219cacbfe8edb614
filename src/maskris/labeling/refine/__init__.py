"""How a map of where a referent may be becomes its mask."""
