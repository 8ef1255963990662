"""Redis or Valkey: signals, leases, event logs, limits. All of it may be lost without losing an answer."""
