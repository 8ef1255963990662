"""Measures the service beside what people use today, and beside floors that do nothing but pass bytes on."""
