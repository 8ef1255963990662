"""The ports, joined to real servers; each adapter translates its library's errors at one boundary."""
