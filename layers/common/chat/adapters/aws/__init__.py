"""Services of AWS that a setting can point to."""
